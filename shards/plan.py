"""The plan: a pure function from a step to the windows it reads.

A run reads `batch_windows` windows a step. How many of them come from each source follows from
the weights (`shards.apportion`); which ones, from the source's own counters (`shards.counters`):
its j-th window of a length is position j mod W of epoch j div W, and every epoch visits all W
windows in its own keyed order (`shards.permutation`). The batch is then put into a keyed order of
its own. So the state of the data after k steps is k, whatever the number of ranks, and everything
can be asked backwards.

*Phases* may have their own window length, batch and weights. A source has one counter for each
length, which runs on over phases; `restart` begins a phase at the beginning of all sources again.
*Unique targets* of a source are distinct positions of its stream that were predicted, in windows
of whatever length. Where documents of a plan's sources have the same text, their targets are one
and the same (`shards.duplicates`): they count for the source that read them first.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.accountant import Accountant, SourceAccount
from shards.counters import Counters, PhaseShape, Span, all_layouts
from shards.errors import DatasetError
from shards.layout import Layout
from shards.permutation import Permutation, together
from shards.plan_spec import PlanSpec
from shards.visits import Visit, Visits

Ids = npt.NDArray[np.int64]


class StepWindows(NamedTuple):
    """The global batch of one step, in order."""

    source: npt.NDArray[np.int32]
    """Index into `Plan.sources`: [batch_windows]."""
    window: Ids
    """Window of that source: [batch_windows]."""


class Holding(NamedTuple):
    """A window that holds targets of a range of tokens."""

    seq_len: int
    window: int
    targets: int
    """Its targets in the range."""


class Reading(NamedTuple):
    """One training on a range of tokens."""

    step: int
    seq_len: int
    window: int
    targets: int


class Plan(PlanSpec):
    """What a plan says, and what follows from it; see the module."""

    @property
    def num_steps(self) -> int:
        """Steps of all phases."""
        return self.counters.phase_starts[-1]

    def batch_windows(self, step: int) -> int:
        """Windows in the global batch of `step`."""
        return self.phases[self.phase_index(step)].batch_windows

    def seq_len_at(self, step: int) -> int:
        """Targets of the windows of `step`."""
        return self.phases[self.phase_index(step)].seq_len or self.seq_len

    def phase_index(self, step: int) -> int:
        """Number of the phase that `step` is in."""
        if not 0 <= step < self.num_steps:
            raise DatasetError(f"step {step}: the plan has steps 0 to {self.num_steps - 1}")
        return self.counters.phase_index(step)

    def step(self, step: int) -> StepWindows:
        """The global batch of `step`, in the order in which slots are dealt to ranks."""
        size, seq_len = self.batch_windows(step), self.seq_len_at(step)
        windows = self._windows(seq_len, self.counters.ordinals(step))
        source = np.repeat(np.arange(len(windows), dtype=np.int32), [len(w) for w in windows])
        slots = np.arange(size, dtype=np.int64)
        if self.order == "shuffled":
            slots = Permutation(size, "batch", self.seed, step).forward(slots)
        return StepWindows(source[slots], np.concatenate(windows)[slots])

    def steps_reading(self, source: int, window: int, seq_len: int) -> Ids:
        """All steps that read a window of a length, in order: int64 [times_read]."""
        found = [np.empty(0, dtype=np.int64)]
        for span in self.counters.spans(source, self.num_steps):
            if span.seq_len == seq_len:
                ordinals = self._ordinals(source, span, window)
                found.append(self.counters.steps_of(source, span, ordinals))
        return np.concatenate(found)

    def first_steps(self, source: int, windows: Ids, seq_len: int) -> Ids:
        """The step that reads each window first, `num_steps` where none does: [n] -> [n]."""
        steps = np.full(len(windows), self.num_steps, dtype=np.int64)
        place = windows
        if self.order == "shuffled" and len(windows):
            place = self.epoch_order(source, seq_len, 0).backward(windows)
        for span in self.counters.spans(source, self.num_steps):
            if span.seq_len != seq_len:
                continue
            ordinals = place
            if self.order == "sequential":
                ordinals = span.first + (place - span.first) % self.layout(source, seq_len).windows
            new = (steps == self.num_steps) & (ordinals >= span.first) & (ordinals < span.stop)
            steps[new] = self.counters.steps_of(source, span, ordinals[new])
        return steps

    def passes(self, source: int) -> list[tuple[int, int]]:
        """Window lengths that read a source, each with the tokens read before a pass over it.

        Windows are numbered anew in every pass. Rows are numbered on, so that of every phase the
        first passes are needed: what two whole ones do not predict, no later one does.
        """
        spans = self.counters.spans(source, self.num_steps)
        if not self.rows:
            return [(seq_len, 0) for seq_len in sorted({span.seq_len for span in spans})]
        tokens, found = self.sources[source].tokens, set()
        for span in spans:
            first = span.first * (span.seq_len + 1) // tokens
            found |= {(span.seq_len, number * tokens) for number in range(first, first + 3)}
        return sorted(found)

    def layout(self, source: int, seq_len: int) -> Layout:
        """How the windows of a length lie in the stream of a source."""
        return self.counters.layouts[source][seq_len]

    def readings(self, source: int, start: int, stop: int) -> Iterator[Reading]:
        """Every training on tokens [start, stop) of a source."""
        for seq_len, window, targets in self.holding(source, start, stop):
            for step in self.steps_reading(source, window, seq_len):
                yield Reading(int(step), seq_len, window, targets)

    def holding(self, source: int, start: int, stop: int) -> Iterator[Holding]:
        """Windows with targets in tokens [start, stop) of a source, of every length in use."""
        for seq_len, layout in self.counters.layouts[source].items():
            spans = self.counters.spans(source, self.num_steps)
            ends = [span.stop for span in spans if span.seq_len == seq_len]
            limit = max(ends, default=0) if self.rows else layout.windows
            held: dict[int, int] = {}
            for window, targets in layout.holding(start, stop, limit):
                held[window] = held.get(window, 0) + targets
            yield from (Holding(seq_len, window, targets) for window, targets in held.items())

    def account(self, step: int) -> list[SourceAccount]:
        """What the steps before `step` read, source by source."""
        if not 0 <= step <= self.num_steps:
            raise DatasetError(f"step {step}: the plan has {self.num_steps} steps")
        return self._accountant.account(step)

    def tokens_before(self, step: int) -> int:
        """Targets predicted by the steps before `step`."""
        total = 0
        for start, phase in zip(self.counters.phase_starts, self.counters.phases, strict=False):
            steps = min(max(step - start, 0), phase.num_steps)
            total += steps * phase.batch_windows * phase.seq_len
        return total

    @cached_property
    def _accountant(self) -> Accountant:
        return Accountant(self)

    @cached_property
    def counters(self) -> Counters:
        """Counters of all sources over all phases."""
        shapes = tuple(
            PhaseShape(
                phase.num_steps,
                phase.batch_windows,
                phase.weights,
                phase.seq_len or self.seq_len,
                phase.restart,
            )
            for phase in self.phases
        )
        lengths = {shape.seq_len for shape in shapes}
        layouts = all_layouts([source.tokens for source in self.sources], lengths, self.rows)
        return Counters(shapes, layouts, self.order)

    def epoch_order(self, source: int, seq_len: int, epoch: int) -> Permutation:
        """The order of the windows of a length in an epoch of a shuffled source."""
        # The key is hashed from its parts: seed + epoch would make run 1's second epoch run 2's
        # first. Lengths but the plan's own are part of it, or their orders would resemble it.
        key = (self.seed, self.sources[source].name, epoch)
        other = () if seq_len == self.seq_len else (seq_len,)
        return Permutation(self.layout(source, seq_len).windows, "epoch", *key, *other)

    def _windows(self, seq_len: int, ordinals: Sequence[tuple[int, int]]) -> list[Ids]:
        """The windows that each source reads at ordinals [first, stop), across epoch ends."""
        if self.rows:
            return [np.arange(first, stop, dtype=np.int64) for first, stop in ordinals]
        visits = [
            visit
            for source, (first, stop) in enumerate(ordinals)
            for visit in self._epochs(source, seq_len, first, stop)
        ]
        if self.order == "shuffled":
            pieces = self._visits.windows(visits)
        else:
            pieces = [np.arange(visit.first, visit.stop, dtype=np.int64) for visit in visits]
        windows: list[list[Ids]] = [[np.empty(0, dtype=np.int64)] for _ in ordinals]
        for visit, piece in zip(visits, pieces, strict=True):
            windows[visit.source].append(piece)
        return [np.concatenate(pieces) for pieces in windows]

    @cached_property
    def _visits(self) -> Visits:
        return Visits(self.epoch_order)

    def _epochs(self, source: int, seq_len: int, first: int, stop: int) -> Iterator[Visit]:
        """Cut ordinals [first, stop) at the ends of epochs."""
        per_epoch = self.layout(source, seq_len).windows
        while first < stop:
            epoch, position = divmod(first, per_epoch)
            end = min(stop - epoch * per_epoch, per_epoch)
            yield Visit(source, seq_len, epoch, position, end)
            first += end - position

    def _ordinals(self, source: int, span: Span, window: int) -> Ids:
        """Ordinals of a span at which a window is read: int64 [times_read]."""
        if self.rows:  # numbered on over all passes, so each is read once
            return np.array([window] if span.first <= window < span.stop else [], dtype=np.int64)
        per_epoch = self.layout(source, span.seq_len).windows
        epochs = range(span.first // per_epoch, -(-span.stop // per_epoch))
        places = np.full(len(epochs), window, dtype=np.int64)
        if self.order == "shuffled":
            orders = [self.epoch_order(source, span.seq_len, epoch) for epoch in epochs]
            found = together(orders, np.split(places, len(epochs)), forward=False)
            places = np.concatenate(found)
        ordinals = np.arange(epochs.start, epochs.stop, dtype=np.int64) * per_epoch + places
        return ordinals[(ordinals >= span.first) & (ordinals < span.stop)]
