"""Reading tokenizer.json, which may come from anybody."""

from pathlib import Path

from tokenizers import Tokenizer

from shards.errors import DatasetError


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        DatasetError: it is none.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise DatasetError(f"{path}: not a tokenizer.json ({error})") from None
