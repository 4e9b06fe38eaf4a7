"""What a build takes out of its text: the places that hold benchmark items.

The same judgement as the audit's, with thresholds a little lower: what is taken out no longer
counts in the word statistics of the result, so an audit of the result weighs words a little
differently and would otherwise call what was just below the line.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.audit import AuditRules
from contamination.clusters import Worth, worth_of
from contamination.corpus import batch_of
from contamination.halves import called_places
from contamination.index import Index
from contamination.rules import CLASSES
from contamination.scan import scan
from contamination.surprisal import Vocabulary
from contamination.words import hash_words_of_texts

_MARGIN = 0.9
"""Bits that are asked for, as a share of the audit's."""
_COVERAGE_MARGIN = 0.95
_REACH = 4
"""Halves of an item are looked for in documents so far apart: those between may yet be dropped."""


class Place(NamedTuple):
    """A place of a document that holds an item."""

    document: int
    item: int
    """Number of the item, counted over all benchmarks."""
    class_: str
    start: int
    """First byte."""
    end: int


def lowered(rules: AuditRules) -> AuditRules:
    """Thresholds for removal: those of an audit, lowered by a margin."""
    return rules.model_copy(
        update={
            "min_bits": _MARGIN * rules.min_bits,
            "run_bits": _MARGIN * rules.run_bits,
            "short_coverage": _COVERAGE_MARGIN * rules.short_coverage,
            "long_coverage": _COVERAGE_MARGIN * rules.long_coverage,
        }
    )


@dataclass(frozen=True)
class Remover:
    """Finds the places to take out.

    Attributes:
        index: of the benchmarks.
        vocabulary: of the index.
        worth: what the items' words are worth in the whole text of the build.
        rules: lowered thresholds.
        classes: of `contamination.rules.CLASSES`; other places stay.
    """

    index: Index
    vocabulary: Vocabulary
    worth: Worth
    rules: AuditRules
    classes: frozenset[str]

    @classmethod
    def of(
        cls,
        index: Index,
        vocabulary: Vocabulary,
        bits: NDArray[np.float32],
        rules: AuditRules,
        classes: frozenset[str],
    ) -> "Remover":
        """A remover for a text in which the items' words have so many bits."""
        return cls(index, vocabulary, worth_of(index, bits), lowered(rules), classes)

    def places(self, hits: NDArray[np.void], order: NDArray[np.int64] | None = None) -> list[Place]:
        """The places among hits, by document and item.

        Args:
            hits: of all documents of a file.
            order: see `contamination.halves`; documents that later stages drop may stand between
                two that hold the halves of an item.
        """
        found = called_places(hits, self.index, self.worth, self.rules, order, _REACH)
        columns = (found.clusters[name].tolist() for name in ("document", "item", "start", "end"))
        return [
            Place(document, item, CLASSES[number], start, end)
            for number, document, item, start, end in zip(
                found.classes.tolist(), *columns, strict=True
            )
            if item < self.index.num_items and CLASSES[number] in self.classes
        ]

    def without(self, text: str, places: list[Place], margin: int) -> str:
        """The text without the places, and without what comes to light when they are gone.

        Args:
            text: of one document.
            places: found in it.
            margin: characters that are cut on either side as well.
        """
        while places:
            text = _cut(text, places, margin)
            batch = batch_of([text.encode("utf-8")])
            places = self.places(scan(batch.data, batch.offsets, self.index, self.vocabulary).hits)
        return text


def _cut(text: str, places: list[Place], margin: int) -> str:
    data, kept, at = text.encode("utf-8"), [], 0
    for place in sorted(places, key=lambda place: place.start):
        start = len(data[: place.start].decode("utf-8"))
        end = start + len(data[place.start : place.end].decode("utf-8"))
        start = max(0, _line_start(text, start) - margin)
        kept.append(text[at : max(at, start)])
        at = max(at, _line_end(text, end) + margin)
    return "".join([*kept, text[at:]])


def _line_start(text: str, start: int) -> int:
    """The start of the line, where nothing but a label ("Question: A") stands before the place."""
    first = text.rfind("\n", 0, start) + 1
    return start if _has_words(text[first:start]) else first


def _line_end(text: str, end: int) -> int:
    """The end of the marks after the last word, and of the line if no words follow in it."""
    last = text.find("\n", end)
    last = len(text) if last < 0 else last
    if not _has_words(text[end:last]):
        return last
    while not (text[end].isalnum() or text[end].isspace()):
        end += 1
    return end


def _has_words(text: str) -> bool:
    return len(hash_words_of_texts([text]).hash) > 0
