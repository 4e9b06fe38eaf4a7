"""Which windows, by number, every phase reads of every source, and back from a number to its step.

The windows of one length that a source gives are numbered in the order in which they are read, on
and on over its epochs: the ordinal. Shuffled sources have one counter for each length, which runs
on across the phases of that length. Sources read straight through have one place in the stream: a
phase of another length goes on at the first window of its own grid that begins there or later, so
fewer than `seq_len` targets are passed over, and counted as not read. A phase with `restart` sets
all counters back to zero: it reads from the beginning again.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from shards.apportion import Apportionment
from shards.layout import Layout

Ids = npt.NDArray[np.int64]
Order = Literal["shuffled", "sequential", "rows"]


class PhaseShape(NamedTuple):
    """What the counters need to know of a phase."""

    num_steps: int
    batch_windows: int
    weights: tuple[str, ...]
    seq_len: int
    restart: bool


class Span(NamedTuple):
    """Windows of one source and one length that one phase reads: ordinals [first, stop)."""

    phase: int
    seq_len: int
    first: int
    stop: int

    @property
    def windows(self) -> int:
        """How many."""
        return self.stop - self.first


@dataclass(frozen=True)
class Counters:
    """The counters of all sources over all phases."""

    phases: tuple[PhaseShape, ...]
    layouts: tuple[Mapping[int, Layout], ...]
    """Of every source, by window length."""
    order: Order

    @cached_property
    def phase_starts(self) -> list[int]:
        """First step of every phase, and the number of steps."""
        return [0, *accumulate(phase.num_steps for phase in self.phases)]

    def phase_index(self, step: int) -> int:
        """Number of the phase that `step` is in."""
        return bisect.bisect_right(self.phase_starts, step) - 1

    def ordinals(self, step: int) -> list[tuple[int, int]]:
        """Ordinals [first, stop) that `step` reads of every source."""
        phase = self.phase_index(step)
        done = (step - self.phase_starts[phase]) * self.phases[phase].batch_windows
        share, firsts = self._shares[phase], self._firsts[phase]
        before = share.counts(done)
        after = share.counts(done + self.phases[phase].batch_windows)
        return [(f + a, f + b) for f, a, b in zip(firsts, before, after, strict=True)]

    def spans(self, source: int, step: int) -> list[Span]:
        """What the steps before `step` read of a source, phase by phase; no empty spans."""
        found = []
        for number, phase in enumerate(self.phases):
            steps = min(step - self.phase_starts[number], phase.num_steps)
            if steps <= 0:
                break
            if steps == phase.num_steps:
                count = self._totals[number][source]
            else:
                count = self._shares[number].counts(steps * phase.batch_windows)[source]
            first = self._firsts[number][source]
            if count:
                found.append(Span(number, phase.seq_len, first, first + count))
        return found

    def steps_of(self, source: int, span: Span, ordinals: Ids) -> Ids:
        """The steps that read these ordinals of a span: int64 [n] -> int64 [n]."""
        phase = self.phases[span.phase]
        nth = self._shares[span.phase].reaching(source, ordinals - span.first + 1)
        return self.phase_starts[span.phase] + (nth - 1) // phase.batch_windows

    @cached_property
    def _shares(self) -> list[Apportionment]:
        return [Apportionment([Fraction(w) for w in phase.weights]) for phase in self.phases]

    @cached_property
    def _totals(self) -> list[list[int]]:
        """Windows that each phase reads of each source."""
        pairs = zip(self.phases, self._shares, strict=True)
        return [share.counts(phase.num_steps * phase.batch_windows) for phase, share in pairs]

    @cached_property
    def _firsts(self) -> list[list[int]]:
        """First ordinal of each phase in each source."""
        columns = [self._firsts_of(source) for source in range(len(self.layouts))]
        return [list(row) for row in zip(*columns, strict=True)]

    def _firsts_of(self, source: int) -> list[int]:
        firsts: list[int] = []
        place: dict[int, int] = {}  # next ordinal, by length
        for number, phase in enumerate(self.phases):
            if phase.restart:
                place = {}
            first = self._next(place, self.layouts[source], phase.seq_len)
            firsts.append(first)
            count = self._totals[number][source]
            if count and self.order != "shuffled":
                place = {phase.seq_len: first + count}
            elif count:
                place[phase.seq_len] = first + count
        return firsts

    def _next(self, place: dict[int, int], layouts: Mapping[int, Layout], seq_len: int) -> int:
        if self.order == "shuffled" or seq_len in place or not place:
            return place.get(seq_len, 0)
        ((before, ordinal),) = place.items()
        return layouts[seq_len].carried(layouts[before], ordinal)


def all_layouts(
    tokens: Sequence[int], lengths: set[int], rows: bool
) -> tuple[dict[int, Layout], ...]:
    """Layouts of streams of these sizes, by window length."""
    return tuple({length: Layout(size, length, rows) for length in lengths} for size in tokens)
