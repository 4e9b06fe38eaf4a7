"""How many of the first n windows come from each source: exact, monotone, by formula.

Sources hang in a Huffman tree of their weights. At every node the n windows that reach it are
split in two by rounding n * left / (left + right), in integers. A child's count never falls as n
grows and a node's count rises by one window at a time, so every source's count is monotone, which
the textbook's largest remainder on n is not: there a source of small weight can have to give a
window back when n grows (the Alabama paradox of apportionment).

At most half a window is lost or gained at a node, and what a source inherits from above is scaled
down by its share of the node: the count stays within one window of n * weight / total for up to
three sources, and within two for any number.
"""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

_Ids = npt.NDArray[np.int64]
_Node = (
    int | tuple["_Node", int, "_Node", int]
)  # a source, or (left, its weight, right, its weight)


class Apportionment:
    """Splits windows among sources in proportion to integer weights.

    Args:
        weights: one non-negative number a source, not all zero; only their ratios matter.
    """

    def __init__(self, weights: Sequence[int | Fraction]) -> None:
        self._size = len(weights)
        scale = 1
        for weight in weights:
            scale = scale * Fraction(weight).denominator
        self._root = _huffman([int(weight * scale) for weight in weights])
        self._paths = dict(_paths(self._root))

    def counts(self, n: int) -> list[int]:
        """Windows of each source among the first `n` of the mixture; they sum to n."""
        out = [0] * self._size
        pending = [(self._root, n)]
        while pending:
            node, windows = pending.pop()
            if isinstance(node, int):
                out[node] = windows
                continue
            left, left_weight, right, right_weight = node
            total = left_weight + right_weight
            share = (2 * windows * left_weight + total) // (2 * total)  # rounded to nearest
            pending += [(left, share), (right, windows - share)]
        return out

    def reaching(self, source: int, counts: _Ids) -> _Ids:
        """The smallest n at which a source has each of these counts: int64 [k] -> int64 [k].

        The inverse of `counts`: with l of t shares, a left child has j windows from
        n = ceil((2j - 1) t / 2l) on, a right child from n = floor((2j - 1) t / 2l) + 1 on.

        Args:
            source: a source with a weight above zero.
            counts: numbers of its windows, 1 or more.
        """
        n = counts
        for weight, total, is_left in reversed(self._paths[source]):
            # In Python's integers where the product could leave 64 bits.
            exact = len(n) and 2 * int(n.max()) * total >= 1 << 62
            odd = 2 * (n.astype(object) if exact else n) - 1
            reached = (
                -(-odd * total // (2 * weight)) if is_left else odd * total // (2 * weight) + 1
            )
            n = reached.astype(np.int64)
        return n


def _huffman(weights: Sequence[int]) -> _Node:
    if min(weights) < 0 or not any(weights):
        raise ValueError(f"weights {list(weights)}: need one above zero and none below")
    heap: list[tuple[int, int, _Node]] = [
        (weight, source, source) for source, weight in enumerate(weights) if weight
    ]
    heapq.heapify(heap)
    serial = len(weights)  # breaks ties in weight, so that the tree is always the same
    while len(heap) > 1:
        small, _, right = heapq.heappop(heap)
        large, _, left = heapq.heappop(heap)
        heapq.heappush(heap, (small + large, serial, (left, large, right, small)))
        serial += 1
    return heap[0][2]


def _paths(
    node: _Node, above: tuple[tuple[int, int, bool], ...] = ()
) -> Iterator[tuple[int, tuple[tuple[int, int, bool], ...]]]:
    """Every source with its way from the root: (own weight, node's weight, is left) a node."""
    if isinstance(node, int):
        yield node, above
        return
    left, left_weight, right, right_weight = node
    total = left_weight + right_weight
    yield from _paths(left, (*above, (left_weight, total, True)))
    yield from _paths(right, (*above, (right_weight, total, False)))
