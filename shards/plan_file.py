"""RUN/plan.json: the plan of a run, where its datasets are, and what it grew from.

A run's plan may grow by phases appended to it. The plans it had before are noted by their ids, and
are beginnings of the present one, so that they can be worked out from it and their ids compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.atomic import write_json_atomic
from shards.errors import DatasetError
from shards.json_input import parse_json
from shards.plan import Plan


@dataclass(frozen=True)
class Earlier:
    """A plan that the run had before phases were appended."""

    plan_id: str
    num_phases: int
    num_sources: int


def save_plan(
    plan: Plan, datasets: Mapping[str, str], path: Path, earlier: tuple[Earlier, ...] = ()
) -> None:
    """Write RUN/plan.json, and a file beside it where documents are in it more than once.

    Args:
        plan: the plan.
        datasets: address of the dataset of every source, by the source's name.
        path: RUN/plan.json.
        earlier: the plans the run had before, oldest first.
    """
    values: dict[str, Any] = {
        "plan_id": plan.plan_id,
        "plan": plan.to_json(),
        "datasets": dict(datasets),
        "duplicates": plan.duplicates.save(path.parent) if plan.duplicates else None,
        "earlier": [vars(old) for old in earlier],
    }
    write_json_atomic(path, values)


def load_plan(path: Path) -> tuple[Plan, dict[str, str]]:
    """Read RUN/plan.json: the plan, and the address of the dataset of each source by name.

    Raises:
        DatasetError: no plan there, or one whose content does not fit its id.
    """
    values = _read(path)
    try:
        plan = Plan.from_json(values["plan"])
        stated, datasets, facts = values["plan_id"], values["datasets"], values["duplicates"]
        addresses = {source.name: datasets[source.name] for source in plan.sources}
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_ours(path, error) from None
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    if not all(isinstance(address, str) for address in addresses.values()):
        raise _not_ours(path, "an address that is no text")
    if plan.plan_id != stated:
        raise DatasetError(
            f"{path}: plan_id {stated} but the plan hashes to {plan.plan_id}: edited"
        )
    if facts:
        from shards.duplicates import Duplicates  # here: polars takes 0.1 s to load

        plan = replace(plan, duplicates=Duplicates.load(path.parent, facts))
    return plan, addresses


def earlier_plans(path: Path) -> tuple[Earlier, ...]:
    """The plans that RUN/plan.json says the run had before, oldest first.

    Raises:
        DatasetError: one of them is not a beginning of the plan.
    """
    plan, _ = load_plan(path)
    try:
        found = tuple(Earlier(**values) for values in _read(path)["earlier"])
    except (KeyError, TypeError) as error:
        raise _not_ours(path, error) from None
    for old in found:
        counts = ((old.num_phases, len(plan.phases)), (old.num_sources, len(plan.sources)))
        if not all(_is_count(count, most) for count, most in counts):
            raise _not_ours(path, f"{old}")
        if plan.prefix(old.num_phases, old.num_sources).plan_id != old.plan_id:
            raise DatasetError(f"{path}: earlier plan {old.plan_id} is no beginning of this one")
    return found


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and 0 < value <= most


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: no plan there; is {path.parent} a run of `tally train`?")
    values = parse_json(path.read_bytes(), str(path))
    if not isinstance(values, dict):
        raise _not_ours(path, f"{type(values).__name__} where an object belongs")
    return values


def _not_ours(path: Path, error: object) -> DatasetError:
    return DatasetError(f"{path}: not a plan of ours ({error}); restore the file")
