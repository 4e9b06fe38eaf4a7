"""How many distinct targets of one source were read in windows of several lengths.

Windows of one length never overlap, so counting them is multiplication (`Layout.unique_targets`).
Windows of different lengths do: window i of length L holds the targets at [1 + iL, 1 + (i + 1)L).
The size of their union is exact here, by one way for each order of reading.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.layout import Layout
from shards.permutation import Permutation

Ids = npt.NDArray[np.int64]
_AT_ONCE = 1 << 15  # windows looked at together: some megabytes


class Stretch(NamedTuple):
    """Windows or rows read straight through: ordinals [first, stop) of a layout."""

    layout: Layout
    first: int
    stop: int


def straight_union(stretches: Sequence[Stretch]) -> int:
    """Distinct targets of windows read as stored, any number of times."""
    total = reached = 0
    for low, high in sorted(piece for stretch in stretches for piece in _read_windows(stretch)):
        total += max(high - max(low, reached), 0)
        reached = max(reached, high)
    return total


def _read_windows(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """Ranges of targets that a stretch of windows reads; two where it begins again."""
    seq_len, windows = stretch.layout.seq_len, stretch.layout.windows
    count, first = stretch.stop - stretch.first, stretch.first % windows
    if count >= windows:
        yield 0, windows * seq_len
        return
    yield first * seq_len, min(first + count, windows) * seq_len
    yield 0, max(first + count - windows, 0) * seq_len


class _Pass(NamedTuple):
    """Tokens [low, high) of a stream read in rows; those = residue mod stride are not predicted."""

    low: int
    high: int
    residue: int
    stride: int


def rows_union(stretches: Sequence[Stretch]) -> int:
    """Distinct targets of rows read on and on over the end of the stream.

    Between two borders of passes the same passes read every token. A token is not predicted where
    it is the first of a row in all of them: those are an arithmetic progression (Chinese remainder
    theorem), so they are counted, not listed.
    """
    passes = [part for stretch in stretches for part in _passes(stretch)]
    borders = sorted({border for part in passes for border in (part.low, part.high)})
    total = 0
    for low, high in pairwise(borders):
        over = [part for part in passes if part.low <= low and part.high >= high]
        if over:
            total += high - low - _never_predicted(over, low, high)
    return total


def _passes(stretch: Stretch) -> Iterator[_Pass]:
    """The first passes of a stretch; what two whole ones do not predict, no later one does."""
    tokens, stride = stretch.layout.tokens, stretch.layout.stride
    start, stop = stretch.first * stride, stretch.stop * stride
    first = start // tokens
    for number in range(first, min(first + 3, -(-stop // tokens))):
        shift = number * tokens
        low, high = max(start - shift, 0), min(stop - shift, tokens)
        yield _Pass(low, high, -shift % stride, stride)


def _never_predicted(passes: Sequence[_Pass], low: int, high: int) -> int:
    """Numbers in [low, high) that leave every pass's residue."""
    residue, modulus = 0, 1
    for part in passes:
        shared = math.gcd(modulus, part.stride)
        if (part.residue - residue) % shared:
            return 0
        steps = (
            (part.residue - residue) // shared * pow(modulus // shared, -1, part.stride // shared)
        )
        residue += modulus * (steps % (part.stride // shared))
        modulus *= part.stride // shared
        residue %= modulus
    return (high - 1 - residue) // modulus - (low - 1 - residue) // modulus


class ShuffledUnion:
    """Distinct targets of a source whose windows of each length are read in shuffled order.

    It remembers the last count and goes on from there, so that asking after every step costs the
    windows of that step.

    Args:
        layouts: by length.
        orders: the order of each length's first epoch.
    """

    def __init__(self, layouts: Mapping[int, Layout], orders: Mapping[int, Permutation]) -> None:
        self._layouts, self._orders = layouts, orders
        self._read = dict.fromkeys(layouts, 0)
        self._total = 0

    def count(self, read: Mapping[int, int]) -> int:
        """Distinct targets in the first `read[length]` windows of each length's first epoch."""
        if any(read[length] < done for length, done in self._read.items()):
            self._read, self._total = dict.fromkeys(self._layouts, 0), 0
        growth = {length: (read[length] - done) * length for length, done in self._read.items()}
        # The largest part first: while nothing else is read, counting it is multiplication.
        for length in sorted(growth, key=lambda length: -growth[length]):
            self._grow(length, read[length])
        return self._total

    def _grow(self, length: int, stop: int) -> None:
        others = [other for other, read in self._read.items() if read and other != length]
        if not others:
            self._total += (stop - self._read[length]) * length
        for windows in self._new_windows(length, stop, others) if others else ():
            self._total += len(windows) * length - self._covered(length, windows, others)
        self._read[length] = stop

    def _new_windows(self, length: int, stop: int, others: Sequence[int]) -> Iterator[Ids]:
        """Windows with ordinals from the last count to `stop`, but for those all covered."""
        first, order = self._read[length], self._orders[length]
        whole = [o for o in others if self._read[o] == self._layouts[o].windows]
        if whole:  # only the windows beyond the end of another length's last one are left
            reach = max(self._layouts[other].windows * other for other in whole)
            beyond = np.arange(reach // length, self._layouts[length].windows, dtype=np.int64)
            position = order.backward(beyond)
            yield beyond[(position >= first) & (position < stop)]
            return
        for begin in range(first, stop, _AT_ONCE):
            yield order.forward(np.arange(begin, min(begin + _AT_ONCE, stop), dtype=np.int64))

    def _covered(self, length: int, windows: Ids, others: Sequence[int]) -> int:
        """Targets of these windows that windows of the other lengths have read."""
        low = (windows * length)[:, None]
        high = low + length
        borders = [low, high]
        for other in others:
            inner = (low // other + 1 + np.arange(length // other + 1)) * other
            borders.append(np.minimum(inner, high))
        # axes: (windows, cells); no window of any length begins inside a cell
        edges = np.sort(np.concatenate(borders, axis=1), axis=1)
        starts, sizes = edges[:, :-1], np.diff(edges, axis=1)
        seen = np.zeros(sizes.shape, dtype=bool)
        for other in others:
            window = starts // other
            there = (sizes > 0) & (window < self._layouts[other].windows)
            seen[there] |= self._orders[other].backward(window[there]) < self._read[other]
        return int(sizes[seen].sum())
