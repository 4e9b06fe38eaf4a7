"""A model beside baselines under the same harness: scores, wins, differences item by item.

    RUN/eval/comparison.json, comparison.md    of a suite comparison.<suite>.json, .md

A win is a strictly better score; a tie is none. The difference of two models is taken item by item
where both have samples of the same items: its standard error is then that of the mean of the
differences, and the items' own difficulty, which both share, falls out of it (Miller 2024,
arXiv:2411.00640, section 4.2).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.evaluation import EvalSettings, Suite
from shards.atomic import write_json_atomic, write_text_atomic
from train.comparison_tables import markdown
from train.task_results import read_samples

_FORMAT = 1
Result = dict[str, Any]


class Scored(NamedTuple):
    """A model with its results, in the order of the tasks."""

    name: str
    described: dict[str, Any]
    folder: Path
    """Where the results' samples are."""
    results: Sequence[Result]


def compare(
    candidate: Scored,
    rivals: Sequence[Scored],
    settings: EvalSettings,
    suite_name: str | None = None,
    suite: Suite | None = None,
) -> dict[str, Any]:
    """The content of comparison.json.

    Args:
        candidate: the model under test.
        rivals: baselines with results of the same tasks.
        settings: of all of them.
        suite_name: if the tasks are a suite's.
        suite: says which metric counts and whether there is an average; else each task's headline.
    """
    metrics = {r["task"]: r["headline"] for r in candidate.results}
    metrics |= {task: m for task, m in (suite.metrics if suite else {}).items() if task in metrics}
    whole = suite is not None and suite.average and set(suite.metrics) == set(metrics)
    own = _scores(candidate, metrics)
    return {
        "format": _FORMAT,
        "candidate": candidate.name,
        "model": candidate.described,
        "suite": suite_name,
        "settings": settings.model_dump(),
        "lm_eval": candidate.results[0]["lm_eval"],
        "tasks": own,
        "average": _average(own) if whole else None,
        "baselines": [
            _rival(candidate, rival, metrics, own, with_average=whole) for rival in rivals
        ],
    }


def write_comparison(facts: dict[str, Any], folder: Path) -> list[Path]:
    """Write comparison.json and comparison.md, of a suite comparison.<suite>.json and so on."""
    name = ".".join(filter(None, ["comparison", facts["suite"]]))
    paths = [folder / f"{name}.json", folder / f"{name}.md"]
    write_json_atomic(paths[0], facts)
    write_text_atomic(paths[1], markdown(facts))
    return paths


def _scores(model: Scored, metrics: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {r["task"]: _score(r, metrics[r["task"]]) for r in model.results}


def _score(result: Result, metric: str) -> dict[str, Any]:
    found = result["metrics"][metric]
    return {
        "metric": metric,
        "value": found["value"],
        "stderr": found["stderr"],
        "higher_is_better": found["higher_is_better"] is not False,
        "items": result["items"]["scored"],
        "of": result["items"]["in_split"],
        "chance": result["chance"],
    }


def _average(scores: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Plain mean of the tasks' scores; their errors are independent."""
    errors = [score["stderr"] or 0.0 for score in scores.values()]
    return {
        "value": statistics.fmean(score["value"] for score in scores.values()),
        "stderr": math.hypot(*errors) / len(scores),
    }


def _rival(
    candidate: Scored,
    rival: Scored,
    metrics: Mapping[str, str],
    own: Mapping[str, dict[str, Any]],
    *,
    with_average: bool,
) -> dict[str, Any]:
    theirs = _scores(rival, metrics)
    for ours, other in zip(candidate.results, rival.results, strict=True):
        task = ours["task"]
        pair = [
            _by_item(read_samples(model.folder, result), metrics[task])
            for model, result in ((candidate, ours), (rival, other))
        ]
        theirs[task]["difference"] = paired_difference(*pair)
        theirs[task]["win"] = is_better(own[task], theirs[task])
    wins = sum(score["win"] for score in theirs.values())
    return {
        "name": rival.name,
        "model": rival.described,
        "parameters": rival.results[0].get("parameters"),
        "tasks": theirs,
        "average": _average(theirs) if with_average else None,
        "wins": wins,
        "win_rate": wins / len(theirs),
    }


def is_better(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether our score is strictly better."""
    if ours["higher_is_better"]:
        return bool(ours["value"] > theirs["value"])
    return bool(ours["value"] < theirs["value"])


def _by_item(samples: Sequence[dict[str, Any]], metric: str) -> dict[tuple[Any, ...], float]:
    """The metric of each item; empty where it is not a number an item."""
    name, _, kind = metric.partition(":")
    return {
        (sample["doc_id"], sample["doc_hash"]): float(sample[name])
        for sample in samples
        if sample.get("filter", "none") == (kind or "none")
        and isinstance(sample.get(name), bool | int | float)
    }


def paired_difference(
    ours: Mapping[tuple[Any, ...], float], theirs: Mapping[tuple[Any, ...], float]
) -> dict[str, Any] | None:
    """Ours less theirs over the items that both have; None of fewer than two.

    p is two-sided, of a normal distribution.
    """
    gaps = [value - theirs[item] for item, value in ours.items() if item in theirs]
    if len(gaps) < 2:
        return None
    mean, stderr = statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
    p = math.erfc(abs(mean) / stderr / math.sqrt(2)) if stderr else float(mean == 0)
    return {"value": mean, "stderr": stderr, "items": len(gaps), "p": p}
