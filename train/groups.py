"""Means over groups of tasks, as lm-eval takes them: MMLU over its subjects, weighted by size.

    FOLDER/groups.json    name -> tasks, items, metrics with standard errors

A group is told only where all its tasks were scored, of the same model in the same way.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.atomic import write_json_atomic
from train.tasks import expand, task_manager

GROUPS_NAME = "groups.json"
Result = dict[str, Any]
_FORMAT = 1


def group_names(name: str) -> Iterator[str]:
    """A group of lm-eval that has a mean, and those inside it; nothing for a task or a tag."""
    entry = task_manager(name).task_index.get(name)
    if entry is None or entry.kind.name != "GROUP":
        return
    if entry.cfg.get("aggregate_metric_list"):
        yield name
    members = entry.cfg.get("task") or []
    for member in [members] if isinstance(members, str) else members:
        if isinstance(member, str):
            yield from group_names(member)


def write_groups(names: Sequence[str], results: Sequence[Result], folder: Path) -> dict[str, Any]:
    """Means of the groups that are named, and of those told before that still hold.

    Args:
        names: tasks, groups and tags as the user named them.
        results: of the tasks that were scored now, all of one model.
        folder: where the results are kept.

    Returns:
        The groups by name, as they are in groups.json; without any, no file is written.
    """
    path = folder / GROUPS_NAME
    old = json.loads(path.read_bytes())["groups"] if path.is_file() else {}
    asked = [group for name in names for group in group_names(name)]
    scored = {result["task"]: result for result in results}
    found = {}
    for group in dict.fromkeys([*old, *asked]):
        leaves = [scored.get(task) or _kept(folder, task) for task in expand([group])]
        whole = [leaf for leaf in leaves if leaf is not None]
        if len(whole) == len(leaves) and _comparable([*whole, *results]):
            found[group] = group_mean(group, whole)
    if found or old:
        write_json_atomic(path, {"format": _FORMAT, "groups": found})
    return found


def _kept(folder: Path, task: str) -> Result | None:
    path = folder / f"{task}.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def _comparable(results: Sequence[Result]) -> bool:
    """Whether all are of one model, one release of lm-eval and one way of asking.

    How many solved examples a task has is its own affair.
    """
    kinds = {
        json.dumps([r["model"], r["lm_eval"], {**r["settings"], "num_fewshot": None}])
        for r in results
    }
    return len(kinds) == 1


def group_mean(group: str, results: Sequence[Result]) -> dict[str, Any]:
    """The means that lm-eval's group asks for, over results of all its tasks."""
    wanted = task_manager(group).task_index[group].cfg["aggregate_metric_list"]
    metrics = {}
    for entry in wanted:
        by_size = entry.get("weight_by_size", True)
        for metric in _spelled(entry, results):
            metrics[metric] = _mean(results, metric, by_size) | {"weighted_by_size": by_size}
    return {
        "tasks": {result["task"]: result["key"] for result in results},
        "items": sum(result["items"]["scored"] for result in results),
        "in_split": sum(result["items"]["in_split"] for result in results),
        "metrics": metrics,
    }


def _spelled(entry: Mapping[str, Any], results: Sequence[Result]) -> list[str]:
    """A group's metric under the names our results have, with the filter behind a colon."""
    filters = entry.get("filter_list")
    filters = [filters] if isinstance(filters, str) else filters
    shared = [m for m in results[0]["metrics"] if all(m in r["metrics"] for r in results)]
    parts = {metric: metric.partition(":") for metric in shared}
    return [
        metric
        for metric, (name, _, kind) in parts.items()
        if name == entry["metric"] and (filters is None or (kind or "none") in filters)
    ]


def _mean(results: Sequence[Result], metric: str, by_size: bool) -> dict[str, Any]:
    from lm_eval.api.metrics import (
        aggregate_subtask_metrics,
        pooled_sample_stderr,
        unweighted_mean_stderr,
    )

    values = [result["metrics"][metric] for result in results]
    sizes = [result["items"]["scored"] for result in results]
    errors = [value["stderr"] for value in values]
    stderr = None
    if None not in errors and sum(sizes) > len(sizes):
        stderr = pooled_sample_stderr(errors, sizes) if by_size else unweighted_mean_stderr(errors)
    mean = aggregate_subtask_metrics([value["value"] for value in values], sizes, by_size)
    return {
        "value": float(mean),
        "stderr": None if stderr is None else float(stderr),
        "higher_is_better": values[0]["higher_is_better"],
    }
