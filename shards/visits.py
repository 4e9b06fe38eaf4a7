"""The order of epochs in blocks of positions, so that steps in a row share the work.

A permutation costs some 60 microseconds a call however few positions are asked for. A step of few
windows asks for few; the block around them serves the steps after it too.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.permutation import Permutation, together

Ids = npt.NDArray[np.int64]
BLOCK = 256
"""Positions."""
_KEPT = 256
_Key = tuple[int, int, int, int]
"""Source, window length, epoch, number of the block."""


class Visit(NamedTuple):
    """Positions [first, stop) of one epoch of a source, in windows of one length; not empty."""

    source: int
    seq_len: int
    epoch: int
    first: int
    stop: int

    @property
    def blocks(self) -> list[_Key]:
        """The blocks that hold them."""
        numbers = range(self.first // BLOCK, -(-self.stop // BLOCK))
        return [(self.source, self.seq_len, self.epoch, number) for number in numbers]


class Visits:
    """The windows at positions of epochs; may be asked from several threads.

    Args:
        order: the permutation of (source, window length, epoch).
    """

    def __init__(self, order: Callable[[int, int, int], Permutation]) -> None:
        self._order = order
        self._kept: dict[_Key, Ids] = {}

    def windows(self, visits: Sequence[Visit]) -> list[Ids]:
        """The windows of each visit, in order: int64 [stop - first] each."""
        kept = self._kept.copy()  # another thread may empty it
        missing = [key for visit in visits for key in visit.blocks if key not in kept]
        if missing:
            kept |= self._computed(missing)
        return [_cut(visit, [kept[key] for key in visit.blocks]) for visit in visits]

    def _computed(self, keys: Sequence[_Key]) -> dict[_Key, Ids]:
        orders = [self._order(*key[:3]) for key in keys]
        values = [
            np.arange(number * BLOCK, min((number + 1) * BLOCK, order.n), dtype=np.int64)
            for (*_, number), order in zip(keys, orders, strict=True)
        ]
        new = dict(zip(keys, together(orders, values, forward=True), strict=True))
        if len(self._kept) + len(new) > _KEPT:
            self._kept = {}
        self._kept |= new
        return new


def _cut(visit: Visit, blocks: list[Ids]) -> Ids:
    start = visit.first // BLOCK * BLOCK
    windows = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return windows[visit.first - start : visit.stop - start]
