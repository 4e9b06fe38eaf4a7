"""Where a text stands in a dataset: every place, each checked on the decoded text.

With the text index (`shards.text_index`) that takes milliseconds for passages of some forty tokens
and more. Shorter texts, or datasets without index, are decoded and read through. Texts are found
within documents, as their tokens decode.
"""

import bisect
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from shards.documents import Document, DocumentReader
from shards.errors import DatasetError
from shards.grams import SURE_TOKENS
from shards.reader import Dataset, TokenArray, TokenStream
from shards.text_index import TextIndex, encode_passage

if TYPE_CHECKING:
    from shards.detokenize import ByteTable

_BLOCK_TOKENS = 1 << 20
_SLACK_TOKENS = 16  # the ends of a passage may be cut in more tokens where it stands


class Match(NamedTuple):
    """One place of a text."""

    document: Document
    start: int
    """First token that has a part of the text, counted in the stream."""
    stop: int
    """One past the last."""


class TextSearch:
    """One text, looked for in one dataset."""

    def __init__(self, dataset: Dataset, text: str) -> None:
        """Decide how to search.

        Raises:
            DatasetError: no text.
        """
        if not text:
            raise DatasetError("the text to look for is empty")
        self.dataset = dataset
        self._text, self._index = text, TextIndex(dataset)
        self._passage = encode_passage(dataset.tokenizer(), text)
        self._whole = not self._index.missing()

    @property
    def why_slow(self) -> str | None:
        """Why everything must be read, and the way out; None where the index answers."""
        if not self._passage.probes:
            return (
                f"too short for a text index (about {SURE_TOKENS} tokens and a word at both ends "
                "are needed), so all tokens are read"
            )
        if not self._whole:
            return (
                f"{self.dataset.address} has no text index, so all tokens are read; "
                f"`tally inspect {self.dataset.address} --index` makes one"
            )
        return None

    def matches(
        self, stream: TokenStream, advance: Callable[[float], None] = lambda _: None
    ) -> Iterator[Match]:
        """Every place in a stream, in order.

        Args:
            stream: of the dataset.
            advance: called with the number of tokens done.
        """
        if self.why_slow:
            yield from self._read_through(stream, advance)
            return
        yield from self._look_up(stream)
        advance(stream.num_tokens)

    def _look_up(self, stream: TokenStream) -> Iterator[Match]:
        candidates = self._index.candidates(stream, self._passage)
        ranges = [(candidate.probe, candidate.probe + 1) for candidate in candidates]
        documents = DocumentReader(stream).overlapping(ranges)
        last = -1
        for candidate, (document,) in zip(candidates, documents, strict=True):
            match = self._checked(stream, document, candidate.start)
            if match and match.start > last:
                last = match.start
                yield match

    def _checked(self, stream: TokenStream, document: Document, start: int) -> Match | None:
        """The text in that document at, or some tokens from, `start`."""
        low = max(start - _SLACK_TOKENS, document.start)
        high = min(start + self._passage.num_tokens + _SLACK_TOKENS, document.stop - 1)
        ids = stream.tokens(low, high).tolist()

        def has_text(first: int, stop: int) -> bool:
            decoded = self.dataset.tokenizer().decode(ids[first:stop], skip_special_tokens=False)
            return self._text in decoded

        if not has_text(0, len(ids)):
            return None
        stop = bisect.bisect_left(range(len(ids)), True, key=lambda end: has_text(0, end))
        first = bisect.bisect_left(range(stop), True, key=lambda k: not has_text(k + 1, stop))
        return Match(document, low + first, low + stop)

    def _read_through(
        self, stream: TokenStream, advance: Callable[[float], None]
    ) -> Iterator[Match]:
        for number in range(len(stream.facts.shards)):
            tokens, base = stream.shard_tokens(number), stream.starts[number]
            start = 0
            while start < len(tokens):
                ends = _ends(tokens, start, stream.eos_id)
                found = [(base + a, base + b) for a, b in self._in_block(tokens, start, ends)]
                documents = DocumentReader(stream).overlapping(found)
                for (first, stop), (document, *_) in zip(found, documents, strict=True):
                    yield Match(document, first, stop)
                advance(int(ends[-1]) + 1 - start)
                start = int(ends[-1]) + 1

    def _in_block(
        self, tokens: TokenArray, start: int, ends: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """Token ranges that have the text, in whole documents from `start` on."""
        starts = np.append(start, ends[:-1] + 1)
        data, offsets = self._table.decode(tokens, starts, ends)
        raw, wanted = data.tobytes(), self._text.encode()
        place = raw.find(wanted)
        while place >= 0:
            document = int(np.searchsorted(offsets, place, side="right")) - 1
            place -= int(offsets[document])
            if place + len(wanted) <= offsets[document + 1] - offsets[document]:
                cuts = self._table.ends(tokens[starts[document] : ends[document]])
                first = int(np.searchsorted(cuts, place, side="right"))
                last = int(np.searchsorted(cuts, place + len(wanted)))
                yield int(starts[document]) + first, int(starts[document]) + last + 1
            place = raw.find(wanted, place + int(offsets[document]) + 1)

    @cached_property
    def _table(self) -> "ByteTable":
        from shards.detokenize import byte_table  # its compiler takes half a second to load

        return byte_table(self.dataset.tokenizer())


def _ends(tokens: TokenArray, start: int, eos_id: int) -> npt.NDArray[np.int64]:
    """Where the next documents, about a million tokens of them, have their EOS."""
    size = _BLOCK_TOKENS
    while True:
        ends = np.flatnonzero(tokens[start : start + size] == eos_id)
        if len(ends):
            return ends + start
        if start + size >= len(tokens):
            raise DatasetError("documents without EOS at their end; run `tally verify`")
        size *= 2
