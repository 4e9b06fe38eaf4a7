"""How often a run trained on a range of tokens, from the run's plan and ledger.

A finding was *trained on* in a step when a window read in that step holds four fifths of it or
more; where the border of two windows cuts it, reads of its larger part are counted as partial.
"""

from dataclasses import dataclass
from pathlib import Path

from contamination.errors import AuditError
from shards.ledger import read_ledger
from shards.plan import Plan, load_plan

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
        held = dict(self._plan.holding(number, start, end))
        shares = {window: targets / (end - start) for window, targets in held.items()}
        whole = [window for window, share in shares.items() if share >= _MOST]
        chosen = whole or [max(shares, key=lambda window: shares[window])] if shares else []
        steps = sorted(
            int(step)
            for window in chosen
            for step in self._plan.steps_reading(number, window)
            if step < self.steps
        )
        first, last = (steps[0], steps[-1]) if steps else (None, None)
        times = (len(steps), 0) if whole else (0, len(steps))
        return Exposure(*times, first, last)
