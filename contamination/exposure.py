"""How often a run trained on a range of tokens, from the run's plan and ledger.

A finding was *trained on* in a step when a window read in that step holds four fifths of it or
more; where the border of two windows cuts it, reads of its larger part are counted as partial.
"""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from contamination.errors import AuditError
from shards.ledger import read_ledger
from shards.plan import Holding, Plan
from shards.plan_file import load_plan

_MOST = 0.8


@dataclass(frozen=True)
class Exposure:
    """Training on one range of tokens up to a step."""

    times: int
    """Steps' windows that held four fifths of it."""
    partial_times: int
    """Reads of its larger part, where no window holds four fifths."""
    first_step: int | None
    last_step: int | None


class RunHistory:
    """A run up to a step."""

    def __init__(self, run: Path, step: int | None, dataset_id: str) -> None:
        """Opens RUN.

        Args:
            run: the run's directory.
            step: count steps before this one; None for all the run has made.
            dataset_id: the audited dataset.

        Raises:
            AuditError: the run did not read this dataset, or has not come to this step.
            DatasetError: no run there.
        """
        self._plan: Plan = load_plan(run / "plan.json")[0]
        done = 1 + max((entry.step for entry in read_ledger(run)), default=-1)
        if step is not None and not 0 <= step <= done:
            raise AuditError(f"{run}: --step {step}, but the run has made {done} steps")
        self.steps = done if step is None else step
        self.tokens = self._plan.tokens_before(self.steps)
        self.plan_id = self._plan.plan_id
        self._sources = {
            (source.source, source.split): number
            for number, source in enumerate(self._plan.sources)
            if source.dataset_id == dataset_id
        }
        if not self._sources:
            read = ", ".join(sorted({source.dataset_id for source in self._plan.sources}))
            raise AuditError(
                f"{run}: trained on dataset {read}, not on the audited one ({dataset_id}); "
                "audit the dataset the run was given"
            )

    def exposure(self, source: str, split: str, start: int, end: int) -> Exposure:
        """Exposure of tokens [start, end) of a stream."""
        number = self._sources.get((source, split))
        if number is None:
            return Exposure(0, 0, None, None)
        whole: list[int] = []
        partial: list[int] = []
        held = sorted(self._plan.holding(number, start, end))
        for _, parts in groupby(held, key=lambda part: part.seq_len):
            self._count(number, list(parts), end - start, whole, partial)
        steps = sorted(whole + partial)
        first, last = (steps[0], steps[-1]) if steps else (None, None)
        return Exposure(len(whole), len(partial), first, last)

    def _count(
        self, number: int, held: list[Holding], size: int, whole: list[int], partial: list[int]
    ) -> None:
        """Add the steps that read the range in windows of one length."""
        most = [part for part in held if part.targets >= _MOST * size]
        for part in most or [max(held, key=lambda part: part.targets)]:
            steps = self._plan.steps_reading(number, part.window, part.seq_len)
            (whole if most else partial).extend(int(s) for s in steps if s < self.steps)
