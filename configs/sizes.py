"""Sizes of models that `tally init train` knows by name; the values are in sizes.yaml."""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from configs.base import Section
from configs.errors import ConfigError
from configs.loading import parse_yaml


class Size(Section):
    """What a new training configuration begins with."""

    model: dict[str, Any]
    """Keys of `configs.model.ModelConfig`, without those that the data decides."""
    seq_len: PositiveInt
    batch_tokens: PositiveInt
    """Of a long run; a short one takes fewer."""
    lr: PositiveFloat


@cache
def sizes() -> dict[str, Size]:
    """All sizes by name."""
    content = parse_yaml((Path(__file__).parent / "sizes.yaml").read_text(encoding="utf-8"))
    return {str(name): Size.model_validate(entry) for name, entry in content.items()}


def find_size(name: str) -> Size:
    """A size by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    found = sizes().get(name.lower())
    if found is None:
        raise ConfigError(f"--size {name}: there are {', '.join(sizes())}")
    return found
