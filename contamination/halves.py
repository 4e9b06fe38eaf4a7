"""The places that count as findings; an item that is split over two documents is judged whole.

Text is cut into documents by length, and the cut may go through an item: its first half stands in
one document, the second at the beginning of the next. Each half alone may be too little to be
called. Two places are halves when the second begins its document, they are neighbours in the order
of the corpus, and what the second covers of the item comes after what the first covers. Both then
have the class that one place with all of it would have.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.audit import AuditRules
from contamination.clusters import CLUSTER, Worth, clusters_of
from contamination.index import Index
from contamination.rules import are_dirty, classify

_HALF_BITS = 0.2
"""Bits of a half, as a share of those that a finding needs."""
_FIRST_WORDS = 20
"""A second half begins within so many words of its document."""
_PART_DOCUMENTS = 20_000


class Places(NamedTuple):
    """Called clusters.

    Attributes:
        clusters: CLUSTER [num_places], by document, item and word.
        classes: int8 [num_places], number in `contamination.rules.CLASSES`.
        halves: bool [num_places], whether the class is that of two halves together.
    """

    clusters: NDArray[np.void]
    classes: NDArray[np.int8]
    halves: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.bool_]) -> "Places":
        """Some of them."""
        return Places(self.clusters[chosen], self.classes[chosen], self.halves[chosen])


def called_places(
    hits: NDArray[np.void],
    index: Index,
    worth: Worth,
    rules: AuditRules,
    order: NDArray[np.int64] | None = None,
    reach: int = 1,
) -> Places:
    """The places among hits that are findings.

    Args:
        hits: HIT [num_hits], by document and word.
        index: the index they were found with.
        worth: what the items' words are worth.
        rules: thresholds.
        order: int64 [num_documents], where a document stands in the order that says who is a
            neighbour; its number if not given.
        reach: how far apart two documents may stand that hold two halves.
    """
    parts = _parts(hits, index, worth, rules.min_bits, order, reach)
    clusters = np.concatenate([np.empty(0, CLUSTER), *parts])
    classes = classify(clusters, worth, rules)
    first, second = _pairs(clusters, order, reach)
    joint = classify(_joined(clusters[first], clusters[second], worth), worth, rules)
    halves = np.zeros(len(clusters), np.bool_)
    for side in (first, second):
        better = are_dirty(joint) & ((classes[side] < 0) | (joint < classes[side]))
        classes[side[better]] = joint[better]
        halves[side[better]] = True
    return Places(clusters, classes, halves).only(classes >= 0)


def _parts(
    hits: NDArray[np.void],
    index: Index,
    worth: Worth,
    min_bits: float,
    order: NDArray[np.int64] | None,
    reach: int,
) -> Iterator[NDArray[np.void]]:
    """Clusters of `min_bits`, and smaller ones that may be halves, some documents at a time.

    Nearly all small clusters are stock phrases, and there are many.
    """
    borders = np.flatnonzero(np.diff(hits["document"], prepend=-1, append=-1))
    for first in range(0, len(borders) - 1, _PART_DOCUMENTS):
        last = min(first + _PART_DOCUMENTS, len(borders) - 1)
        around = borders[max(0, first - reach)], borders[min(last + reach, len(borders) - 1)]
        clusters = clusters_of(hits[slice(*around)], index, worth, _HALF_BITS * min_bits)
        bits = clusters["question_bits"] + clusters["answer_bits"]
        kept = np.maximum(bits, clusters["passage_bits"]) >= min_bits
        for side in _pairs(clusters, order, reach):
            kept[side] = True
        own = hits["document"][[borders[first], borders[last] - 1]]
        kept &= (clusters["document"] >= own[0]) & (clusters["document"] <= own[1])
        yield clusters[kept]


def _pairs(
    clusters: NDArray[np.void], order: NDArray[np.int64] | None, reach: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clusters that may be halves of an item, and the clusters of their other halves."""
    rows = np.lexsort([clusters["first_word"], clusters["document"], clusters["item"]])
    first, second = rows[:-1], rows[1:]
    where = clusters["document"].astype(np.int64) if order is None else order[clusters["document"]]
    apart = where[second] - where[first]
    fit = clusters["item"][first] == clusters["item"][second]
    fit &= (apart >= 1) & (apart <= reach)
    fit &= clusters["first_word"][second] <= _FIRST_WORDS
    fit &= clusters["item_end"][first] <= clusters["item_start"][second]
    return first[fit], second[fit]


def _joined(first: NDArray[np.void], second: NDArray[np.void], worth: Worth) -> NDArray[np.void]:
    """Each two clusters as one that is broken between them."""
    out = first.copy()
    totals = worth.totals[first["item"]]
    for column, name in enumerate(("passage_bits", "question_bits", "answer_bits")):
        out[name] = np.minimum(first[name] + second[name], totals[:, column])
    for name in ("passage_seeds", "question_seeds"):
        out[name] += second[name]
    out["run"] = np.maximum(first["run"], second["run"])
    words = first["end_word"] - first["first_word"] + second["end_word"] - second["first_word"]
    out["end_word"] = out["first_word"] + words
    return out
