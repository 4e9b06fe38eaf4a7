"""What a plan reads up to a step, source by source: targets, distinct targets, epochs.

*Unique targets* of a source are distinct positions of its stream that were predicted, in windows of
whatever length, however often (`shards.coverage`); where a position is a copy of one read earlier
elsewhere (`shards.duplicates`), it counts for the source that read it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from shards.counters import Span
from shards.coverage import ShuffledUnion, Stretch, rows_union, straight_union
from shards.layout import reachable_targets

if TYPE_CHECKING:
    from shards.duplicates import DuplicateTargets
    from shards.plan import Plan


@dataclass(frozen=True)
class SourceAccount:
    """What was read of one source up to a step."""

    name: str
    windows: int
    """Windows read, of all lengths."""
    tokens: int
    """Targets predicted."""
    unique_tokens: int
    """Distinct targets among them, without those read before in a copy elsewhere."""
    duplicate_tokens: int
    """Distinct targets that were read before in a document with the same text."""
    epochs: Fraction
    """Targets predicted / targets the source has."""
    epochs_read: Fraction
    """Passes over the stream; more than `epochs` where tokens are read but not predicted."""
    available_tokens: int
    """Targets that windows of the lengths used can reach."""
    tail_tokens: int
    """Targets at the end of the stream that no window reaches."""


class Accountant:
    """The accounts of a plan; remembers where it was, so that asking step by step is cheap."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan

    def account(self, step: int) -> list[SourceAccount]:
        """What the steps before `step` read, source by source."""
        return [self._account(number, step) for number in range(len(self._plan.sources))]

    def _account(self, source: int, step: int) -> SourceAccount:
        plan, facts = self._plan, self._plan.sources[source]
        spans = plan.counters.spans(source, step)
        used = {span.seq_len for span in spans} or {plan.counters.phases[0].seq_len}
        available = reachable_targets([plan.layout(source, seq_len) for seq_len in used])
        tokens = sum(span.windows * span.seq_len for span in spans)
        read = sum(span.windows * plan.layout(source, span.seq_len).stride for span in spans)
        epochs = Fraction(tokens, facts.tokens if plan.rows else max(available, 1))
        duplicate = self._copies.before(source, step) if self._copies else 0
        return SourceAccount(
            name=facts.name,
            windows=sum(span.windows for span in spans),
            tokens=tokens,
            unique_tokens=self._distinct(source, spans) - duplicate,
            duplicate_tokens=duplicate,
            epochs=epochs,
            epochs_read=Fraction(read, facts.tokens) if plan.rows else epochs,
            available_tokens=available,
            tail_tokens=0 if plan.rows else facts.tokens - 1 - available,
        )

    def _distinct(self, source: int, spans: Sequence[Span]) -> int:
        """Distinct positions of a source's stream that were predicted."""
        layouts = self._plan.counters.layouts[source]
        ends: dict[int, int] = {}
        for span in spans:
            ends[span.seq_len] = max(ends.get(span.seq_len, 0), span.stop)
        if len(ends) <= 1:  # every reading of it began at its beginning or went on
            return sum(layouts[seq_len].unique_targets(stop) for seq_len, stop in ends.items())
        if self._plan.order == "shuffled":
            return self._unions[source].count(
                {n: min(ends.get(n, 0), layout.windows) for n, layout in layouts.items()}
            )
        stretches = [Stretch(layouts[span.seq_len], span.first, span.stop) for span in spans]
        return rows_union(stretches) if self._plan.rows else straight_union(stretches)

    @cached_property
    def _unions(self) -> list[ShuffledUnion]:
        plan = self._plan
        return [
            ShuffledUnion(
                layouts,
                {n: plan.epoch_order(s, n, 0) for n, layout in layouts.items() if layout.windows},
            )
            for s, layouts in enumerate(plan.counters.layouts)
        ]

    @cached_property
    def _copies(self) -> "DuplicateTargets | None":
        if self._plan.duplicates is None:
            return None
        from shards.duplicates import duplicate_targets  # here: polars takes 0.1 s to load

        return duplicate_targets(self._plan, self._plan.duplicates)


def total_unique(accounts: Sequence[SourceAccount]) -> int:
    """Distinct targets over all sources."""
    return sum(account.unique_tokens for account in accounts)
