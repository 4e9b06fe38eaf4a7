"""Reading tokenizer.json, which may come from anybody."""

from operator import itemgetter
from pathlib import Path

from tokenizers import Tokenizer

from shards.errors import DatasetError

MOST_IDS = 1 << 24
"""Many times any published vocabulary. `tokenizers` makes lists from 0 to the largest id."""


def load_tokenizer(path: Path, error: type[Exception] = DatasetError) -> Tokenizer:
    """Read a tokenizer.json.

    Args:
        path: the file.
        error: what to raise.

    Raises:
        DatasetError: not a tokenizer.json, or an id is far too large; or `error` instead.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as reason:  # the library raises nothing narrower
        raise error(f"{path}: not a tokenizer.json that `tokenizers` reads: {reason}") from None
    token, largest = max(tokenizer.get_vocab().items(), key=itemgetter(1), default=("", 0))
    if largest >= MOST_IDS:
        raise error(
            f"{path}: token {token[:40]!r} has the id {largest:,}; ids must be below {MOST_IDS:,}: "
            "give the tokens ids without large gaps"
        )
    return tokenizer
