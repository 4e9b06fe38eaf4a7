"""Reading tokenizer.json, which may come from anybody."""

from pathlib import Path

from tokenizers import Tokenizer

from shards.errors import DatasetError


def load_tokenizer(path: Path, error: type[Exception] = DatasetError) -> Tokenizer:
    """Read a tokenizer.json.

    Args:
        path: the file.
        error: what to raise.

    Raises:
        DatasetError: it is none; or `error` instead.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as reason:  # the library raises nothing narrower
        raise error(f"{path}: not a tokenizer.json that `tokenizers` reads: {reason}") from None
