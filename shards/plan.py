"""The plan: a pure function from a step to the windows it reads.

A run reads `batch_windows` windows a step. How many of them come from each source follows from
the weights (`shards.apportion`); which ones, from the source's own counter: its j-th window is
position j mod W of epoch j div W, and every epoch visits all W windows in its own keyed order
(`shards.permutation`). The batch is then put into a keyed order of its own. So the state of the
data after k steps is k, whatever the number of ranks, and everything can be asked backwards.
"""

import bisect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from shards.apportion import Apportionment
from shards.atomic import write_json_atomic
from shards.errors import DatasetError
from shards.hashing import blake3_json
from shards.layout import Layout
from shards.permutation import ALGORITHM, Permutation

PLAN_VERSION = 1
Ids = npt.NDArray[np.int64]


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
    windows: int
    """Whole windows in one pass over the stream (see `shards.layout`)."""


@dataclass(frozen=True)
class PlanPhase:
    """Consecutive steps with the same mixture and batch size."""

    name: str
    num_steps: int
    batch_windows: int
    weights: tuple[str, ...]
    """One exact fraction a source ("1/3"), only their ratios matter."""


class StepWindows(NamedTuple):
    """The global batch of one step, in order."""

    source: npt.NDArray[np.int32]
    """Index into `Plan.sources`: [batch_windows]."""
    window: Ids
    """Window of that source: [batch_windows]."""


@dataclass(frozen=True)
class SourceAccount:
    """What was read of one source up to a step."""

    name: str
    windows: int
    tokens: int
    """Targets predicted: windows * seq_len."""
    unique_tokens: int
    """Distinct targets among them."""
    epochs: Fraction
    """Targets predicted / targets the source has."""
    epochs_read: Fraction
    """Passes over the stream; more than `epochs` where tokens are read but not predicted."""
    available_tokens: int
    """Targets that windows of this length can reach."""
    tail_tokens: int
    """Targets at the end of the stream that no window reaches."""


@dataclass(frozen=True)
class Plan:
    """Sources, phases and keys; see the module for what follows from them."""

    seq_len: int
    seed: int
    order: Literal["shuffled", "sequential", "rows"]
    sources: tuple[PlanSource, ...]
    phases: tuple[PlanPhase, ...]
    algorithm: str = ALGORITHM
    version: int = PLAN_VERSION

    @cached_property
    def plan_id(self) -> str:
        """Hash of everything that determines what is read: equal ids, equal token streams."""
        return blake3_json(self.to_json())[:32]

    @property
    def rows(self) -> bool:
        """Whether windows are rows (see `shards.layout`)."""
        return self.order == "rows"

    @property
    def num_steps(self) -> int:
        """Steps of all phases."""
        return self._phase_starts[-1]

    def batch_windows(self, step: int) -> int:
        """Windows in the global batch of `step`."""
        return self.phases[self.phase_index(step)].batch_windows

    def phase_index(self, step: int) -> int:
        """Number of the phase that `step` is in."""
        if not 0 <= step < self.num_steps:
            raise DatasetError(f"step {step}: the plan has steps 0 to {self.num_steps - 1}")
        return bisect.bisect_right(self._phase_starts, step) - 1

    def windows_before(self, step: int) -> Ids:
        """Windows read of each source by the steps before `step`: int64 [num_sources]."""
        if not 0 <= step <= self.num_steps:
            raise DatasetError(f"step {step}: the plan has {self.num_steps} steps")
        return np.array(self._counts(step), dtype=np.int64)

    def step(self, step: int) -> StepWindows:
        """The global batch of `step`, in the order in which slots are dealt to ranks."""
        size = self.batch_windows(step)
        first, last = self._counts(step), self._counts(step + 1)
        windows = [self._windows(s, first[s], last[s]) for s in range(len(self.sources))]
        source = np.repeat(np.arange(len(windows), dtype=np.int32), [len(w) for w in windows])
        slots = np.arange(size, dtype=np.int64)
        if self.order == "shuffled":
            slots = Permutation(size, "batch", self.seed, step).forward(slots)
        return StepWindows(source[slots], np.concatenate(windows)[slots])

    def steps_reading(self, source: int, window: int) -> Ids:
        """All steps that read a window, in order: int64 [times_read]."""
        total, per_epoch = self._counts(self.num_steps)[source], self.sources[source].windows
        if self.rows:  # numbered on over all passes, so each is read once
            ordinals = [window] if window < total else []
            return np.array([self._step_of(source, row) for row in ordinals], dtype=np.int64)
        ordinals = []
        for epoch in range(-(-total // per_epoch)):
            ordinal = epoch * per_epoch + self._position(source, epoch, window)
            if ordinal < total:
                ordinals.append(ordinal)
        return np.array([self._step_of(source, ordinal) for ordinal in ordinals], dtype=np.int64)

    def layout(self, source: int) -> Layout:
        """How the windows of a source lie in its stream."""
        return Layout(self.sources[source].tokens, self.seq_len, rows=self.rows)

    def readings(self, source: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Every training on tokens [start, stop) of a source: (step, window, targets)."""
        for window, targets in self.holding(source, start, stop):
            for step in self.steps_reading(source, window):
                yield int(step), window, targets

    def holding(self, source: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Windows with targets in tokens [start, stop) of a source: (window, targets)."""
        layout = self.layout(source)
        limit = self._counts(self.num_steps)[source] if self.rows else layout.windows
        return layout.holding(start, stop, limit)

    def account(self, step: int) -> list[SourceAccount]:
        """What the steps before `step` read, source by source."""
        counts = self.windows_before(step)
        return [self._account(number, int(n)) for number, n in enumerate(counts)]

    def tokens_before(self, step: int) -> int:
        """Targets predicted by the steps before `step`."""
        return sum(self._counts(step)) * self.seq_len

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Rebuild a plan from `to_json`.

        Raises:
            DatasetError: another plan version or permutation algorithm, or not a plan.
        """
        wanted = (PLAN_VERSION, ALGORITHM)
        found = (values.get("version"), values.get("algorithm"))
        if found != wanted:
            raise DatasetError(f"plan of version {found}; this release replays {wanted} alone")
        sources = tuple(PlanSource(**source) for source in values["sources"])
        phases = tuple(
            PlanPhase(**phase | {"weights": tuple(phase["weights"])}) for phase in values["phases"]
        )
        return cls(**dict(values) | {"sources": sources, "phases": phases})

    @cached_property
    def _phase_starts(self) -> list[int]:
        return [0, *accumulate(phase.num_steps for phase in self.phases)]

    @cached_property
    def _shares(self) -> list[Apportionment]:
        return [Apportionment([Fraction(w) for w in phase.weights]) for phase in self.phases]

    @cached_property
    def _phase_bases(self) -> list[list[int]]:
        """Windows read of each source before each phase; a counter runs on across phases."""
        bases = [[0] * len(self.sources)]
        for phase, share in zip(self.phases, self._shares, strict=True):
            counts = share.counts(phase.num_steps * phase.batch_windows)
            bases.append([a + b for a, b in zip(bases[-1], counts, strict=True)])
        return bases

    def _counts(self, step: int) -> list[int]:
        if step == self.num_steps:
            return self._phase_bases[-1]
        number = self.phase_index(step)
        done = (step - self._phase_starts[number]) * self.phases[number].batch_windows
        counts = self._shares[number].counts(done)
        return [a + b for a, b in zip(self._phase_bases[number], counts, strict=True)]

    def _windows(self, source: int, first: int, last: int) -> Ids:
        """The windows with ordinals [first, last) of a source, across epoch ends."""
        if self.rows:
            return np.arange(first, last, dtype=np.int64)
        per_epoch = self.sources[source].windows
        pieces = [np.empty(0, dtype=np.int64)]
        while first < last:
            epoch, position = divmod(first, per_epoch)
            end = min(last - epoch * per_epoch, per_epoch)
            positions = np.arange(position, end, dtype=np.int64)
            pieces.append(self._visit(source, epoch, positions))
            first += len(positions)
        return np.concatenate(pieces)

    def _visit(self, source: int, epoch: int, positions: Ids) -> Ids:
        if self.order == "sequential":
            return positions
        return self._epoch_order(source, epoch).forward(positions)

    def _position(self, source: int, epoch: int, window: int) -> int:
        if self.order == "sequential":
            return window
        return int(self._epoch_order(source, epoch).backward(np.array([window]))[0])

    def _epoch_order(self, source: int, epoch: int) -> Permutation:
        # The key is hashed from the triple: seed + epoch would make run 1's second epoch
        # run 2's first.
        facts = self.sources[source]
        return Permutation(facts.windows, "epoch", self.seed, facts.name, epoch)

    def _step_of(self, source: int, ordinal: int) -> int:
        """The step whose windows of `source` include number `ordinal`."""
        steps = range(1, self.num_steps + 1)
        return bisect.bisect_right(steps, ordinal, key=lambda step: self._counts(step)[source])

    def _account(self, source: int, windows: int) -> SourceAccount:
        layout = self.layout(source)
        return SourceAccount(
            name=self.sources[source].name,
            windows=windows,
            tokens=windows * self.seq_len,
            unique_tokens=layout.unique_targets(windows),
            epochs=layout.epochs_trained(windows),
            epochs_read=layout.epochs_read(windows),
            available_tokens=layout.available_targets,
            tail_tokens=layout.tail,
        )


def save_plan(plan: Plan, datasets: Mapping[str, str], path: Path) -> None:
    """Write RUN/plan.json: the plan, its id, and where this run found the datasets."""
    value = {"plan_id": plan.plan_id, "plan": plan.to_json(), "datasets": dict(datasets)}
    write_json_atomic(path, value)


def load_plan(path: Path) -> tuple[Plan, dict[str, Path]]:
    """Read RUN/plan.json: the plan, and the dataset directory of each source by name.

    Raises:
        DatasetError: no plan there, or one whose content does not fit its id.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no plan there; is {path.parent} a run of `tally train`?")
    try:
        values = json.loads(path.read_bytes())
        plan = Plan.from_json(values["plan"])
        stated, datasets = values["plan_id"], values["datasets"]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path}: not a plan of ours ({error}); restore the file") from None
    if plan.plan_id != stated:
        raise DatasetError(
            f"{path}: plan_id {stated} but the plan hashes to {plan.plan_id}: edited"
        )
    return plan, {name: Path(directory) for name, directory in datasets.items()}


def total_unique(accounts: Sequence[SourceAccount]) -> int:
    """Distinct targets over all sources."""
    return sum(account.unique_tokens for account in accounts)
