"""The evidence for a finding: matched words on both sides, spans, extracts for the report.

Only documents with findings come here, so this is plain Python: the words of the document's place
and of the item, and which of them lie in a run of five that the other side has too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contamination.index import RUN_WORDS
from contamination.items import Item
from contamination.words import Words, hash_words

EXTRACT_CHARACTERS = 300
"""Longest quotation from a document or an item: a report must not leak the benchmark itself."""
_CONTEXT_BYTES = 24
"""Shown before the first matched word, where there is room for little."""
_NEAR_WORDS, _NEXT_WORDS = 50, 4
_TELLING_BITS = 10.0
"""A shorter answer ("no") proves nothing 50 words away; it must follow the question at once."""


class Span(NamedTuple):
    """Bytes [start, end) of a document or of a field of an item."""

    start: int
    end: int


class Segment(NamedTuple):
    """A piece of an extract, matched or not."""

    text: str
    matched: bool


@dataclass(frozen=True)
class Evidence:
    """Where and how document and item agree.

    Attributes:
        answer_near: the whole answer stands within reach of the question.
        choices_near: how many of the options stand there.
        document_spans: matched bytes of the document.
        item_spans: matched bytes of passage, question and answer.
        document_extract: at most `EXTRACT_CHARACTERS`, in segments.
        item_extract: the same for (passage,) question and answer: field -> segments.
    """

    answer_near: bool
    choices_near: int
    document_spans: list[Span]
    item_spans: dict[str, list[Span]]
    document_extract: list[Segment]
    item_extract: dict[str, list[Segment]]


@dataclass(frozen=True)
class _Side:
    """A text with its words; `matched` marks those that the other side has."""

    data: bytes
    words: Words
    matched: NDArray[np.bool_]

    def spans(self) -> Iterator[Span]:
        """Matched words, neighbours joined."""
        edges = np.flatnonzero(np.diff(np.r_[False, self.matched, False]))
        for first, last in edges.reshape(-1, 2):
            yield Span(int(self.words.start[first]), int(self.words.end[last - 1]))


def evidence_of(
    text: bytes, first_word: int, end_word: int, item: Item, answer_bits: float
) -> Evidence:
    """Compares words [first_word, end_word) of a document with an item.

    Args:
        text: the whole document, UTF-8.
        first_word: the cluster's first word in the document.
        end_word: one past its last.
        item: the item.
        answer_bits: bits of its answer.
    """
    words = _words(text)
    fields = {name: _words(value.encode("utf-8", "surrogatepass")) for name, value in _texts(item)}
    sequence = np.concatenate([part.hash for part in fields.values()])
    place = words.hash[first_word:end_word]
    of_document = np.zeros(len(words.hash), np.bool_)
    of_document[first_word:end_word] = _shared(place, sequence)
    of_item = _shared(sequence, place)

    reach = _NEAR_WORDS if answer_bits >= _TELLING_BITS else _NEXT_WORDS
    before = first_word - reach if reach == _NEAR_WORDS else first_word
    around = words.hash[max(0, before) : end_word + reach]
    document = _Side(text, words, of_document)
    sides = dict(zip(fields, _sides(item, fields, of_item), strict=True))
    if _contains(around, fields["answer"].hash):
        sides["answer"] = replace(sides["answer"], matched=np.ones_like(sides["answer"].matched))
    return Evidence(
        answer_near=_contains(around, fields["answer"].hash),
        choices_near=sum(_contains(around, _words(c.encode()).hash) for c in item.choices),
        document_spans=list(document.spans()),
        item_spans={name: list(side.spans()) for name, side in sides.items()},
        document_extract=_extract(document, EXTRACT_CHARACTERS),
        item_extract=_item_extract(sides),
    )


def _texts(item: Item) -> list[tuple[str, str]]:
    return [("passage", item.passage), ("question", item.question), ("answer", item.answer)]


def _words(data: bytes) -> Words:
    return hash_words(np.frombuffer(data, np.uint8), np.array([0, len(data)]), False)


def _sides(item: Item, fields: dict[str, Words], matched: NDArray[np.bool_]) -> Iterator[_Side]:
    at = 0
    for name, text in _texts(item):
        count = len(fields[name].hash)
        yield _Side(text.encode("utf-8", "surrogatepass"), fields[name], matched[at : at + count])
        at += count


def _shared(words: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which words lie in a run of five that the others hold too."""
    runs = {run.tobytes() for run in _runs(others)}
    out = np.zeros(len(words), np.bool_)
    for k, run in enumerate(_runs(words)):
        if run.tobytes() in runs:
            out[k : k + RUN_WORDS] = True
    return out


def _runs(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if len(words) < RUN_WORDS:
        return np.empty((0, RUN_WORDS), np.uint64)
    return np.lib.stride_tricks.sliding_window_view(words, RUN_WORDS)


def _contains(words: NDArray[np.uint64], part: NDArray[np.uint64]) -> bool:
    if not 0 < len(part) <= len(words):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(words, len(part))
    return bool(np.any(np.all(windows == part, axis=1)))


def _item_extract(sides: dict[str, _Side]) -> dict[str, list[Segment]]:
    """The question and the answer share the room; a matched passage takes the answer's part."""
    shown = [n for n, s in sides.items() if s.data and (n != "passage" or s.matched.any())]
    room, out = EXTRACT_CHARACTERS, {}
    for left, name in zip(range(len(shown), 0, -1), reversed(shown), strict=True):
        out[name] = _extract(sides[name], max(room // left, 20))
        room -= sum(len(segment.text) for segment in out[name])
    return {name: out[name] for name in shown}


def _extract(side: _Side, limit: int) -> list[Segment]:
    """At most `limit` characters around the matched words, cut into segments."""
    spans = list(side.spans())
    start, end = (spans[0].start, spans[-1].end) if spans else (0, 0)
    room = limit - 2  # the ellipses
    low = max(0, start - max(_CONTEXT_BYTES, (room - (end - start)) // 2))
    low = max(0, min(low, len(side.data) - room))
    while 0 < low < start and not side.data[low - 1 : low].isspace():
        low += 1  # begin with a whole word
    high = min(len(side.data), low + room)
    segments = [Segment("\u2026", False)] if low else []
    at = low
    for span in spans:
        if span.start >= high:
            break
        segments.append(Segment(_text(side.data[at : max(at, span.start)]), False))
        segments.append(Segment(_text(side.data[max(at, span.start) : min(span.end, high)]), True))
        at = min(max(at, span.end), high)
    segments.append(Segment(_text(side.data[at:high]), False))
    segments.append(Segment("\u2026" if high < len(side.data) else "", False))
    return [segment for segment in segments if segment.text]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "ignore")
