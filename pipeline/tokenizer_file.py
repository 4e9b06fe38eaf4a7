"""What stands in a tokenizer.json: read once a process, however many parts of a stage ask."""

import gc
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import BuildError

Json = dict[str, Any]


def contents(path: Path) -> Json:
    """The file's values; not to be changed.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
    """
    facts = path.stat()
    return _contents(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(1)
def _contents(path: Path, changed_at: int, size: int) -> Json:
    collects = gc.isenabled()
    gc.disable()  # it would look at a hundred thousand new lists again and again
    try:
        values: Json = orjson.loads(path.read_bytes())
    finally:
        if collects:
            gc.enable()
    return values


def vocabulary(path: Path) -> dict[str, int]:
    """The id of every token of a tokenizer.json, added tokens too.

    Raises:
        BuildError: the file has none.
    """
    try:
        values = contents(path)
        return model_tokens(values) | added_tokens(values)
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(
            f"{path}: not a tokenizer.json ({error!r}); give one that `tokenizers` wrote"
        ) from None


def model_tokens(values: Json) -> dict[str, int]:
    """The tokens of the model in a tokenizer.json, to their ids."""
    tokens = values["model"]["vocab"]
    if isinstance(tokens, list):  # Unigram: pairs of token and score
        return {token: i for i, (token, _) in enumerate(tokens)}
    return dict(tokens)


def added_tokens(values: Json) -> dict[str, int]:
    """The added tokens in a tokenizer.json, to their ids."""
    return {token["content"]: token["id"] for token in values["added_tokens"]}


def num_ids(ids: dict[str, int]) -> int:
    """Entries of the vocabulary, or one more than the highest id where some are left out."""
    return 1 + max(ids.values())
