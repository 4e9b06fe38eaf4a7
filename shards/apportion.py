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
from collections.abc import Sequence
from fractions import Fraction

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
