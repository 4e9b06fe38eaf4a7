"""lm-eval's logged samples, and which benchmark item each one is.

`tally eval` writes `<task>.samples.jsonl`; lm-eval itself `samples_<task>_<time>.jsonl`. A sample
is found by what it says, never by its position: the words of an item's question must be those of
one of the sample's texts, in the normalisation of the audit, which also drops "Question:" and
"Answer:". Where several items ask the same, answer, passage and choices decide.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

from contamination.errors import AuditError
from contamination.items import Benchmark, Item
from contamination.lm_eval_tasks import task_of_samples
from contamination.words import hash_words_of_texts

_MOST_PAIRED = 6
"""Texts of a sample that are tried in pairs (a context and a question)."""


@dataclass(frozen=True)
class Sample:
    """One logged answer.

    Attributes:
        texts: all that its document and its prompts say.
        scores: metric to value, those that are numbers.
        item: what was asked; None if it is in no benchmark of the audit.
    """

    texts: tuple[str, ...]
    scores: dict[str, float]
    item: Item | None = None


@dataclass(frozen=True)
class TaskSamples:
    """The samples of a task, and the benchmark whose items they are.

    Attributes:
        task: lm-eval's name.
        benchmark: the set that has the most of them; None if none has any.
        samples: in the file's order.
    """

    task: str
    benchmark: str | None
    samples: tuple[Sample, ...]


def load_samples(paths: Sequence[Path], benchmarks: Sequence[Benchmark]) -> list[TaskSamples]:
    """Samples of all tasks in files or folders, with their items.

    Raises:
        AuditError: no samples there, or a line that is none.
    """
    files = [file for path in paths for file in _files(path)]
    finders = [_Finder(benchmark) for benchmark in benchmarks]
    by_task: dict[str, list[Sample]] = defaultdict(list)
    for file in files:
        by_task[task_of_samples(file) or file.stem] += _read(file)
    return [_matched(task, samples, finders) for task, samples in sorted(by_task.items())]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*.jsonl") if task_of_samples(file))
    if not found:
        raise AuditError(
            f"--samples {path}: no <task>.samples.jsonl or samples_<task>_<time>.jsonl there; "
            "`tally eval RUN` writes RUN/eval, lm-eval writes them with --log_samples"
        )
    return found


def _read(file: Path) -> Iterator[Sample]:
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                yield _sample(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise AuditError(
                    f"{file}: line {number}: not a sample of lm-eval ({error!r})"
                ) from None


def _sample(row: dict[str, Any]) -> Sample:
    used = row["metrics"] if isinstance(row["metrics"], list) else []
    kind = row.get("filter", "none")
    scores = {
        name if kind == "none" else f"{name}:{kind}": float(row[name])
        for name in used
        if isinstance(row.get(name), bool | int | float)
    }
    prompts = [_prompt(given) for given in _arguments(row.get("arguments"))]
    texts = dict.fromkeys([*_leaves(row["doc"]), *(text for some in prompts for text in some)])
    return Sample(tuple(text for text in texts if text.strip()), scores)


def _arguments(value: Any) -> list[Any]:
    """lm-eval's own files have an object of objects here, ours lists."""
    if isinstance(value, dict):
        return [list(each.values()) if isinstance(each, dict) else each for each in value.values()]
    return list(value or [])


def _prompt(given: Sequence[Any]) -> list[str]:
    """Context, continuation, and both together."""
    texts = [text for text in given if isinstance(text, str)]
    return [*texts, "".join(texts)]


def _leaves(value: Any) -> Iterator[str]:
    """All strings in an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


def _matched(task: str, samples: list[Sample], finders: Sequence["_Finder"]) -> TaskSamples:
    best: tuple[int, str | None, list[Sample]] = (0, None, samples)
    for finder in finders:
        found = [Sample(s.texts, s.scores, finder.find(s.texts)) for s in samples]
        count = sum(sample.item is not None for sample in found)
        if count > best[0]:
            best = (count, finder.name, found)
    return TaskSamples(task, best[1], tuple(best[2]))


class _Finder:
    """The items of a benchmark by the words of their questions."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.name = benchmark.name
        questions = _keys([item.question for item in benchmark.items])
        whole = _keys([f"{item.question} {item.answer}" for item in benchmark.items])
        self._items: dict[bytes, list[Item]] = defaultdict(list)
        for item, *keys in zip(benchmark.items, questions, whole, strict=True):
            for key in dict.fromkeys(keys):
                self._items[key].append(item)

    def find(self, texts: Sequence[str]) -> Item | None:
        """The item that a sample with these texts asks for."""
        keys = [key for key in _keys(texts) if key]
        candidates = self._candidates(keys) or self._candidates(_pairs(keys))
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        known = frozenset(keys)
        # Of items that say the same in every field any will do: findings come to all of them.
        return max(candidates, key=lambda item: sum(k in known for k in _details(item)))

    def _candidates(self, keys: Sequence[bytes]) -> list[Item]:
        found = {item.id: item for key in keys for item in self._items.get(key, ())}
        return list(found.values())


def _details(item: Item) -> list[bytes]:
    return _keys([item.answer, item.answer, item.passage, *item.choices])


def _pairs(keys: Sequence[bytes]) -> list[bytes]:
    return [a + b for a, b in permutations(keys[:_MOST_PAIRED], 2)]


def _keys(texts: Sequence[str]) -> list[bytes]:
    """The hashes of the words of every text; keys of texts put together are keys put together."""
    words = hash_words_of_texts(list(texts), keep_single_letters=True)
    bounds = words.document_offsets.tolist()
    return [words.hash[a:b].tobytes() for a, b in pairwise(bounds)]
