"""Does a config go on with the run that a directory holds? If not, what differs, field by field.

The one thing that may change is the plan, by phases appended to it: everything read before stays
as it was, to the token. Such phases may bring sources of their own, listed after the old ones, and
changes of their own.
"""

from collections.abc import Container, Mapping
from itertools import zip_longest
from typing import Any

from configs.train import TrainConfig
from shards.errors import DatasetError
from shards.plan import Plan

# Settings that change where or how often something happens, never what is computed. What `data`
# determines is in the plan.
FREE = {"name", "micro_batch", "checkpoint", "validation", "sentinel"}
FREE |= {"trackers", "loader", "launch", "data"}
FREE_OF_ENGINE = {"zero_stage", "compile"}  # they round in another order, as other ranks do


def is_appended(old: Plan, new: Plan) -> bool:
    """Whether the new plan is the old one with further phases."""
    phases, sources = len(old.phases), len(old.sources)
    if len(new.phases) <= phases or len(new.sources) < sources:
        return False
    try:
        return new.prefix(phases, sources).plan_id == old.plan_id
    except DatasetError:  # an old phase reads one of the new sources
        return False


def differences(
    old: TrainConfig, new: TrainConfig, old_plan: Plan | None, new_plan: Plan
) -> list[str]:
    """What keeps a run from going on with another config: a line each, old value / new value."""
    phases = {phase.name for phase in old.data.phases}
    found = _different(_settings(old, phases), _settings(new, phases))
    if old_plan is None or old_plan.plan_id == new_plan.plan_id or is_appended(old_plan, new_plan):
        return found
    data = _different({"data": _data(old)}, {"data": _data(new)})
    return found + (data or _different(old_plan.to_json(), new_plan.to_json()))


def _settings(config: TrainConfig, phases: Container[str]) -> dict[str, Any]:
    """What must stay, changes of phases that are yet to be appended left out."""
    values = config.model_dump(mode="json", exclude=FREE)
    values["engine"] = {n: v for n, v in values["engine"].items() if n not in FREE_OF_ENGINE}
    values["changes"] = {n: v for n, v in values["changes"].items() if n in phases}
    return values


def _data(config: TrainConfig) -> dict[str, Any]:
    values = config.model_dump(mode="json")["data"]
    for source in values["sources"].values():
        del source["dataset"]  # a path; the plan holds the dataset's id
    return dict(values)


def _different(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in _different(old.get(k), new.get(k), f"{where}.{k}")]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        pairs = enumerate(zip_longest(old, new))
        return [d for i, (a, b) in pairs for d in _different(a, b, f"{where}.{i}")]
    return [] if old == new else [f"{where.lstrip('.')}: {old} / {new}"]
