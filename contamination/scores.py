"""Scores with and without contaminated items, from lm-eval's logged samples.

An item is *dirty* where the audit has a finding of it that counts, *clean* where it has none, and
*not audited* where it is too short to be audited: that is never called clean.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contamination.found import EXPOSURES, ItemFacts, Key
from contamination.intervals import Scores, difference, mean_of
from contamination.rules import CLASSES
from contamination.samples import TaskSamples

LEAST = 30
"""Items on either side below which nothing is said about a difference."""
_RUNS = (5, 8, 10, 13, 20, 30, 50)
_SHARES = tuple(k / 10 for k in range(1, 11))


def score_split(
    tasks: Sequence[TaskSamples],
    found: Mapping[Key, ItemFacts],
    unauditable: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """The part `scores` of audit.json, a row a task and metric.

    Args:
        tasks: the samples with their items.
        found: by benchmark and item id.
        unauditable: by benchmark, ids of items too short to be audited.
    """
    rows = []
    for task in tasks:
        metrics = dict.fromkeys(name for sample in task.samples for name in sample.scores)
        too_short = frozenset(unauditable.get(task.benchmark or "", ()))
        rows += [_metric(task, metric, found, too_short) for metric in metrics]
    return rows


@dataclass(frozen=True)
class _Scored:
    score: float
    facts: ItemFacts | None
    too_short: bool

    @property
    def dirty(self) -> bool:
        return self.facts is not None and self.facts.dirty


def _metric(
    task: TaskSamples,
    metric: str,
    found: Mapping[Key, ItemFacts],
    too_short: frozenset[str],
) -> dict[str, Any]:
    asked = [sample for sample in task.samples if metric in sample.scores]
    name = task.benchmark or ""
    scored = [
        _Scored(s.scores[metric], found.get(Key(name, s.item.id)), s.item.id in too_short)
        for s in asked
        if s.item is not None
    ]
    dirty = [each for each in scored if each.dirty]
    clean = [each for each in scored if not each.dirty and not each.too_short]
    return {
        "task": task.task,
        "metric": metric,
        "benchmark": task.benchmark,
        "samples": len(asked),
        "unmatched": len(asked) - len(scored),
        "all": _mean(scored),
        "clean": _mean(clean),
        "dirty": _mean(dirty),
        "not_audited": _mean([each for each in scored if each.too_short and not each.dirty]),
        "difference": _difference(dirty, clean),
        "by_class": _groups(scored, CLASSES, lambda facts: facts.class_),
        "by_exposure": _groups(dirty, EXPOSURES, lambda facts: facts.exposure),
        "curve": _curve(scored),
    }


def _scores(some: Sequence[_Scored]) -> Scores:
    return np.array([each.score for each in some], np.float64)


def _mean(some: Sequence[_Scored]) -> dict[str, Any]:
    """n, mean and interval; of no items only n."""
    return mean_of(_scores(some))._asdict() if some else {"n": 0}


def _difference(left: Sequence[_Scored], right: Sequence[_Scored]) -> dict[str, Any] | None:
    """Dirty less clean; None where there are not enough items."""
    if min(len(left), len(right)) < LEAST:
        return None
    return difference(_scores(left), _scores(right))._asdict()


def _groups(
    scored: Sequence[_Scored], names: Sequence[str], name_of: Callable[[ItemFacts], str | None]
) -> dict[str, dict[str, Any]]:
    groups: dict[str | None, list[_Scored]] = defaultdict(list)
    for each in scored:
        if each.facts is not None:
            groups[name_of(each.facts)].append(each)
    return {name: _mean(groups[name]) for name in names if groups[name]}


def _curve(scored: Sequence[_Scored]) -> list[dict[str, Any]]:
    """What other thresholds would say, as in ConTAM (arXiv 2411.03923).

    The estimated performance gain is the mean of all items less the mean of those below the
    threshold; `difference` compares the items on the two sides of it.
    """
    points: list[tuple[str, float, list[bool]]] = []
    for run in _RUNS:
        flags = [each.facts is not None and each.facts.run >= run for each in scored]
        points.append(("longest_run", run, flags))
    for share in _SHARES:
        flags = [each.facts is not None and each.facts.coverage >= share - 1e-6 for each in scored]
        points.append(("question_coverage", share, flags))
    return [_point(scored, *point) for point in points if any(point[2])]


def _point(
    scored: Sequence[_Scored], measure: str, threshold: float, flags: Sequence[bool]
) -> dict[str, Any]:
    above = [each for each, flag in zip(scored, flags, strict=True) if flag]
    below = [each for each, flag in zip(scored, flags, strict=True) if not flag]
    gain = float(_scores(scored).mean() - _scores(below).mean()) if below else None
    return {
        "measure": measure,
        "threshold": threshold,
        "dirty_items": len(above),
        "clean_items": len(below),
        "estimated_performance_gain": gain,
        "difference": _difference(above, below),
    }
