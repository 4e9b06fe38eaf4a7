"""What determines a benchmark score besides model and items, and the named suites and baselines."""

import difflib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from configs.base import Section
from configs.errors import ConfigError
from configs.loading import parse_yaml

_FOLDER = Path(__file__).parent / "eval"


class EvalSettings(Section):
    """What determines a score besides the model and the items."""

    limit: PositiveInt | None = None
    """Only the first so many items of a task; None for all. Scores of a part are marked."""
    num_fewshot: NonNegativeInt | None = None
    """Solved examples before each item; None for what lm-eval's task says, mostly none."""
    bos: bool = False
    """Put the tokenizer's BOS before every context, or EOS where it has no BOS."""
    apart: bool = False
    """Tokenize context and answer apart instead of together, which can cut words differently."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and arithmetic."""
    seed: NonNegativeInt = 1234
    """Of Python's, numpy's, torch's and the few-shot sampler's generators."""


class Suite(Section):
    """Benchmarks that are reported together."""

    about: str
    metrics: dict[str, str]
    """The metric that is reported of each task."""
    average: bool = False
    """Also report the plain mean of all of them."""
    bos: bool = False
    apart: bool = False


@cache
def suites() -> dict[str, Suite]:
    """All suites by name."""
    content = parse_yaml((_FOLDER / "suites.yaml").read_text(encoding="utf-8"))
    return {name: Suite.model_validate(entry) for name, entry in content.items()}


@cache
def baselines() -> dict[str, str]:
    """Hub repositories of the known baselines, by name."""
    content = parse_yaml((_FOLDER / "baselines.yaml").read_text(encoding="utf-8"))
    return {str(name): str(repo) for name, repo in content.items()}


def find_suite(name: str) -> Suite:
    """A suite by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in suites():
        near = difflib.get_close_matches(name, suites(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(suites())}"
        raise ConfigError(f"--suite {name}: no such suite; {hint}")
    return suites()[name]
