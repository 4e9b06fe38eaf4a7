"""Contamination as five well-known papers define it, beside our own definition.

For comparison with published figures only: 28 % of real test questions are shorter than 13 words,
and these definitions call such items clean. `--also gpt3,palm,llama2,llama3,gpt4` asks for them.
Where a paper leaves something open, `Definition.ours` says what is done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from contamination.classic_characters import CharacterIndex
from contamination.classic_words import GRAM_WORDS, WordIndex, WordMatches
from contamination.errors import AuditError
from contamination.items import Benchmark

Name = Literal["gpt3", "palm", "llama2", "llama3", "gpt4"]
_WORDS = (
    "words of this audit's recipe with single letters kept (lower case, no punctuation), of "
    "passage, question and answer one after the other"
)


@dataclass(frozen=True)
class Definition:
    """One paper's rule.

    Attributes:
        title: for reports.
        source: where it is published.
        rule: as published.
        ours: what is decided here, because the paper leaves it open or works on other units.
        threshold: value of an item from which on it is dirty.
    """

    title: str
    source: str
    rule: str
    ours: str
    threshold: float


DEFINITIONS: dict[Name, Definition] = {
    "gpt3": Definition(
        "GPT-3, 8- to 13-gram",
        "Brown et al. 2020, arXiv:2005.14165, appendix C",
        "dirty if any N-gram of the example is in a training document; N is the 5th percentile of "
        "the benchmark's lengths in words, at least 8 and at most 13; case, punctuation and "
        "whitespace ignored",
        f"{_WORDS}; an example of fewer than N words cannot collide. Value: 1 or 0",
        1.0,
    ),
    "palm": Definition(
        "PaLM, 70 % of 8-grams",
        "Chowdhery et al. 2022, arXiv:2204.02311, section 8",
        "contaminated if at least 70 % of the 8-grams of the question, prompt or target were seen "
        "at least once",
        f"{_WORDS}; passage, question and answer are counted apart and the highest share is the "
        "value; a field of fewer than 8 words has none",
        0.7,
    ),
    "llama2": Definition(
        "Llama 2, skip-gram",
        "Touvron et al. 2023, arXiv:2307.09288, appendix A.6",
        "a token is contaminated inside an n-gram of more than 10 tokens that is in both, with at "
        "most 4 tokens that differ, none of them among the first 10 or at the end; dirty: 80 % of "
        "the tokens, clean: under 20 %",
        f"words instead of the model's tokens: {_WORDS}. Value: the share of words",
        0.8,
    ),
    "llama3": Definition(
        "Llama 3, 8-gram ratio",
        "Grattafiori et al. 2024, arXiv:2407.21783, section 5.1.4",
        "the share of the example's tokens that are part of an 8-gram of the training data; the "
        "threshold is chosen for each benchmark by the gain in score that it shows",
        f"words instead of tokens: {_WORDS}; without scores the threshold is half",
        0.5,
    ),
    "gpt4": Definition(
        "GPT-4, three times 50 characters",
        "OpenAI 2023, arXiv:2303.08774, appendix C",
        "contaminated if any of three random substrings of 50 characters (the whole text if it is "
        "shorter) is a substring of a training document; spaces and symbols removed; answers are "
        "ignored",
        "letters and digits of Unicode stay, with their case; passage and question; the random "
        "places follow from the item's text; a text of fewer than 16 characters is not looked "
        "for. Value: 1 or 0",
        1.0,
    ),
}


def parse_names(given: str) -> tuple[Name, ...]:
    """The definitions of a list with commas; `all` is all of them.

    Raises:
        AuditError: a name that is none of them.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    if names == ["all"]:
        return get_args(Name)
    unknown = [name for name in names if name not in DEFINITIONS]
    if unknown:
        raise AuditError(f"--also {unknown[0]}: no such definition; {', '.join(DEFINITIONS)}, all")
    return tuple(name for name in get_args(Name) if name in names)


@dataclass(frozen=True)
class Values:
    """What one definition says of every item.

    Attributes:
        definition: its name.
        values: float32 [num_items], over all benchmarks in turn; NaN where it says nothing.
        gram_words: per benchmark, GPT-3's N; empty for the others.
    """

    definition: Name
    values: NDArray[np.float32]
    gram_words: tuple[int, ...] = ()


def judge_words(
    names: Sequence[Name], index: WordIndex, found: WordMatches, sizes: Sequence[int]
) -> list[Values]:
    """The definitions that count words.

    Args:
        names: which definitions.
        index: the items' words.
        found: what the whole corpus holds of them.
        sizes: items of each benchmark.
    """
    out = []
    lengths = index.bounds[:, 3] - index.bounds[:, 0]
    for name in names:
        if name == "gpt3":
            out.append(_gpt3(lengths, found.longest, sizes))
        elif name == "palm":
            out.append(Values(name, _palm(index, found)))
        elif name == "llama2":
            out.append(Values(name, _share(found.skip, index.bounds, lengths)))
        elif name == "llama3":
            out.append(Values(name, _share(_in_grams(index, found), index.bounds, lengths)))
    return out


def judge_characters(index: CharacterIndex, found: NDArray[np.bool_], num_items: int) -> Values:
    """GPT-4's definition: found is bool [num_substrings]."""
    values = np.full(num_items, np.nan, np.float32)
    values[index.item] = 0
    values[index.item[found]] = 1
    return Values("gpt4", values)


def gram_words(lengths: NDArray[np.int64]) -> int:
    """GPT-3's N of a benchmark: the 5th percentile of its lengths in words, within 8 and 13."""
    return int(np.clip(np.percentile(lengths, 5), 8, 13)) if len(lengths) else 13


def _gpt3(lengths: NDArray[np.int64], longest: NDArray[np.int32], sizes: Sequence[int]) -> Values:
    ends = np.cumsum(sizes)
    starts = ends - np.asarray(sizes)
    per_set = [gram_words(lengths[a:b]) for a, b in zip(starts, ends, strict=True)]
    needed = np.repeat(per_set, sizes)
    values = (longest >= needed).astype(np.float32)
    values[lengths < needed] = np.nan
    return Values("gpt3", values, tuple(per_set))


def _palm(index: WordIndex, found: WordMatches) -> NDArray[np.float32]:
    """The highest share of seen 8-grams among passage, question and answer."""
    best = np.full(len(index.bounds), np.nan, np.float32)
    seen = np.concatenate([[0], np.cumsum(found.seen)])
    for field in range(3):
        begin, stop = index.bounds[:, field], index.bounds[:, field + 1] - GRAM_WORDS + 1
        has = stop > begin
        share = (seen[stop[has]] - seen[begin[has]]) / (stop[has] - begin[has])
        best[has] = np.fmax(best[has], share.astype(np.float32))
    return best


def _in_grams(index: WordIndex, found: WordMatches) -> NDArray[np.bool_]:
    """Which words lie in an 8-gram that was seen."""
    covered = np.zeros(len(found.seen), np.bool_)
    for shift in range(GRAM_WORDS):
        covered[shift:] |= found.seen[: len(covered) - shift]
    return covered


def _share(
    marked: NDArray[np.bool_], bounds: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    sums = np.concatenate([[0], np.cumsum(marked)])
    counts = sums[bounds[:, 3]] - sums[bounds[:, 0]]
    with np.errstate(invalid="ignore", divide="ignore"):
        share: NDArray[np.float32] = np.where(
            lengths >= GRAM_WORDS, counts / lengths, np.nan
        ).astype(np.float32)
    return share


def classic_facts(values: Sequence[Values], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """The part of audit.json: per definition its rule, and per benchmark what it says."""
    out: dict[str, Any] = {}
    for of_definition in values:
        definition = DEFINITIONS[of_definition.definition]
        rows, first = {}, 0
        for number, benchmark in enumerate(benchmarks):
            part = of_definition.values[first : first + len(benchmark.items)]
            rows[benchmark.name] = _row(part, definition.threshold)
            if of_definition.gram_words:
                rows[benchmark.name]["gram_words"] = of_definition.gram_words[number]
            first += len(benchmark.items)
        out[of_definition.definition] = {
            "title": definition.title,
            "source": definition.source,
            "rule": definition.rule,
            "decided_here": definition.ours,
            "threshold": definition.threshold,
            "benchmarks": rows,
        }
    return out


def _row(values: NDArray[np.float32], threshold: float) -> dict[str, Any]:
    judged = values[~np.isnan(values)]
    dirty = int(np.count_nonzero(judged >= np.float32(threshold)))
    return {
        "items": len(values),
        "dirty_items": dirty,
        "share": dirty / max(1, len(values)),
        "mean_value": round(float(judged.mean()), 6) if len(judged) else None,
        "too_short_items": len(values) - len(judged),
    }
