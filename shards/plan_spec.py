"""What a plan says: sources, phases and keys; as JSON, and as the id that is made of it.

What follows from it is in `shards.plan`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from shards.errors import DatasetError
from shards.hashing import blake3_json
from shards.permutation import ALGORITHM
from shards.plan_check import check_plan

if TYPE_CHECKING:
    from shards.duplicates import Duplicates

PLAN_VERSION = 2


@dataclass(frozen=True)
class PlanSource:
    """One stream the plan reads."""

    name: str
    """Its name in the mixture."""
    dataset_id: str
    source: str
    """Its name in the dataset."""
    split: str
    tokens: int
    """Tokens in the stream."""
    masked: bool = False
    """Whether some of them give no loss (see `shards.loss_mask`)."""


@dataclass(frozen=True)
class PlanPhase:
    """Consecutive steps with the same mixture, batch size and window length."""

    name: str
    num_steps: int
    batch_windows: int
    weights: tuple[str, ...]
    """One exact fraction a source ("1/3"), only their ratios matter."""
    seq_len: int | None = None
    """Targets of a window; None: the plan's."""
    restart: bool = False
    """Whether all sources are read from their beginning again."""


@dataclass(frozen=True)
class PlanSpec:
    """Sources, phases, and the seed of all orders; `Plan` adds what follows from them."""

    seq_len: int
    """Targets of a window in phases that name no other length."""
    seed: int
    order: Literal["shuffled", "sequential", "rows"]
    sources: tuple[PlanSource, ...]
    phases: tuple[PlanPhase, ...]
    document_mask: bool = False
    """Whether the first token of a document is no target (see `shards.masking`)."""
    algorithm: str = ALGORITHM
    version: int = PLAN_VERSION
    duplicates: "Duplicates | None" = field(default=None, compare=False, repr=False)
    """Copies among the documents: they change the accounts, not what is read."""

    @cached_property
    def plan_id(self) -> str:
        """Hash of everything that determines what is read: equal ids, equal token streams."""
        return blake3_json(self.to_json())[:32]

    @property
    def rows(self) -> bool:
        """Whether windows are rows (see `shards.layout`)."""
        return self.order == "rows"

    @property
    def masks_targets(self) -> bool:
        """Whether targets of some windows do not count in the loss."""
        return self.document_mask or any(source.masked for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; `from_json` reads them back."""
        values = asdict(replace(self, duplicates=None))
        del values["duplicates"]
        for source in values["sources"]:
            if not source["masked"]:
                del source["masked"]  # stated where it is so, as in the dataset's manifest
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a plan from `to_json`.

        Raises:
            DatasetError: another plan version or permutation algorithm, or not a plan.
        """
        wanted = (PLAN_VERSION, ALGORITHM)
        found = (values.get("version"), values.get("algorithm"))
        if found != wanted:
            raise DatasetError(f"plan of version {found}; this release replays {wanted} alone")
        check_plan(values)
        sources = tuple(PlanSource(**source) for source in values["sources"])
        phases = tuple(
            PlanPhase(**phase | {"weights": tuple(phase["weights"])}) for phase in values["phases"]
        )
        return cls(**dict(values) | {"sources": sources, "phases": phases})

    def prefix(self, num_phases: int, num_sources: int) -> Self:
        """The plan as it was before later phases, and the sources they brought, were appended.

        Raises:
            DatasetError: one of the phases kept reads a source that is left out.
        """
        phases = self.phases[:num_phases]
        for phase in phases:
            if any(Fraction(weight) for weight in phase.weights[num_sources:]):
                raise DatasetError(f"phase '{phase.name}' reads a source that was added later")
        kept = tuple(replace(p, weights=p.weights[:num_sources]) for p in phases)
        copies = self.duplicates and self.duplicates.among(num_sources)
        sources = self.sources[:num_sources]
        return replace(self, sources=sources, phases=kept, duplicates=copies)
