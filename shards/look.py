"""Documents for people to read: whole, in part, around a match; and when they were read.

Texts of the web hold anything, sequences that rewrite a terminal among it: everything printed goes
through `visible`.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shards.documents import Document, DocumentReader
from shards.errors import DatasetError
from shards.reader import Dataset, TokenStream
from shards.text_search import Match
from shards.tracing import Passage, Reading, Subject

_SAMPLE_CHARACTERS = 2000
_CONTEXT_TOKENS = 24
LINE_TOKENS = 64
"""More than `one_line` shows."""
_MOST_ROWS = 1000
# Controls but newline and tab, line separators, and what changes the direction of writing.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_RANGE = re.compile(r"([^/:]+)(?:/([^/:]+))?:([\d_,]+)-([\d_,]+)")


def visible(text: str) -> str:
    """The text with characters that could steer a terminal written as escapes."""
    return _HOSTILE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, most: int = 160) -> str:
    """The text on a line, cut."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def streams(dataset: Dataset, source: str | None) -> list[TokenStream]:
    """All streams of a dataset, or those of one source.

    Raises:
        DatasetError: no such source.
    """
    sources = dataset.manifest.sources
    if source is not None and source not in sources:
        raise DatasetError(f"no source '{source}'; there are: {', '.join(sources)}")
    return [
        dataset.stream(name, split)
        for name, facts in sources.items()
        for split, split_facts in facts.splits.items()
        if source in (None, name) and split_facts.shards
    ]


def text_of(dataset: Dataset, document: Document) -> str:
    """A document's text, as its tokens decode."""
    stream = dataset.stream(document.source, document.split)
    ids = stream.tokens(document.start, document.stop - 1).tolist()
    return dataset.tokenizer().decode(ids, skip_special_tokens=False)


def sample(chosen: Sequence[TokenStream], count: int, seed: int) -> Iterator[Document]:
    """Documents drawn evenly from streams, the same for the same seed."""
    shards = [(stream, number) for stream in chosen for number in range(len(stream.facts.shards))]
    sizes = [stream.facts.shards[number].documents for stream, number in shards]
    ends = list(accumulate(sizes))
    total = ends[-1] if ends else 0
    for drawn in random.Random(seed).sample(range(total), min(count, total)):
        place = bisect_right(ends, drawn)
        stream, number = shards[place]
        yield DocumentReader(stream).at(number, drawn - ends[place] + sizes[place])


def find_document(chosen: Sequence[TokenStream], doc_id: str) -> Document:
    """The document of that id, or the one it was folded into.

    Raises:
        DatasetError: there is none.
    """
    for stream in chosen:
        document = DocumentReader(stream).find(doc_id)
        if document:
            return document
    raise DatasetError(f"no document '{doc_id}'; it may have been dropped, or be another dataset's")


def token_range(dataset: Dataset, text: str) -> tuple[TokenStream, int, int]:
    """The stream and the range that SOURCE[/SPLIT]:START-STOP names; STOP is not part of it.

    Raises:
        DatasetError: not of that form, or not in the dataset.
    """
    found = _RANGE.fullmatch(text)
    if not found:
        raise DatasetError(f"--tokens '{text}': write SOURCE[/SPLIT]:START-STOP, as web/val:0-500")
    stream = dataset.stream(found[1], found[2] or "train")
    start, stop = (int(found[k].replace(",", "")) for k in (3, 4))
    if not start < stop <= stream.num_tokens:
        raise DatasetError(f"--tokens '{text}': the stream has tokens 0 to {stream.num_tokens}")
    return stream, start, stop


def header(document: Document) -> str:
    """Where a document is and came from, in a line."""
    origin = document.url or document.origin
    return visible(
        f"--- {document.source}/{document.split} {document.doc_id} ({origin}), "
        f"tokens {document.start:,} to {document.stop:,}"
    )


def document_lines(dataset: Dataset, document: Document, whole: bool) -> Iterator[str]:
    """A document, or its beginning."""
    text = text_of(dataset, document)
    yield header(document)
    yield visible(text if whole else text[:_SAMPLE_CHARACTERS])
    if not whole and len(text) > _SAMPLE_CHARACTERS:
        yield f"[{len(text) - _SAMPLE_CHARACTERS:,} more characters: --doc prints all]"
    yield ""


def document_json(dataset: Dataset, document: Document) -> dict[str, Any]:
    """A document with its text."""
    return document._asdict() | {"text": text_of(dataset, document)}


class Part(NamedTuple):
    """What of a document lies in a range of tokens."""

    document: Document
    start: int
    """First token, counted in the stream."""
    stop: int
    """One past the last."""
    text: str


def parts(dataset: Dataset, stream: TokenStream, start: int, stop: int) -> Iterator[Part]:
    """The parts of documents that lie in a range of tokens, EOS included."""
    (documents,) = DocumentReader(stream).overlapping([(start, stop)])
    for document in documents:
        first, last = max(start, document.start), min(stop, document.stop)
        ids = stream.tokens(first, last).tolist()
        text = dataset.tokenizer().decode(ids, skip_special_tokens=False)
        yield Part(document, first, last, text)


def part_lines(part: Part) -> Iterator[str]:
    """A part of a document."""
    yield header(part.document)
    yield visible(part.text)


def found_json(found: Part | Match) -> dict[str, Any]:
    """A part of a document, or a match in it."""
    return found._asdict() | {"document": found.document._asdict()}


def match_lines(dataset: Dataset, match: Match) -> Iterator[str]:
    """A match, marked, with the text around it."""
    document, start, stop = match
    stream, decode = dataset.stream(document.source, document.split), dataset.tokenizer().decode
    first = max(start - _CONTEXT_TOKENS, document.start)
    last = min(stop + _CONTEXT_TOKENS, document.stop - 1)
    cuts = ((first, start), (start, stop), (stop, last))
    before, found, after = (decode(stream.tokens(*cut).tolist()) for cut in cuts)
    yield header(document)
    yield f"  tokens {start:,} to {stop:,}: ...{_flat(before)}>>>{_flat(found)}<<<{_flat(after)}..."


def passage_lines(passages: Sequence[Passage]) -> Iterator[str]:
    """The documents of a step: a line for each window, below it the parts of documents in it."""
    for (slot, source, window), parts in groupby(passages, key=lambda p: p[:3]):
        yield f"slot {slot}: {source}, window {window}"
        for part in parts:
            where = visible(f"{part.doc_id} ({part.url or part.origin})")
            yield f"  {where}, tokens {part.token_start:,} to {part.token_stop:,}"
            yield f"    {one_line(part.text)}"


def readings_table(
    subjects: Sequence[Subject], readings: Sequence[Reading], until: int
) -> Iterator[Group | Text]:
    """The documents asked for, and the steps that trained on them."""
    for subject in subjects[:_MOST_ROWS]:
        yield Text(header(subject.document))
    targets = sum(reading.targets for reading in readings)
    steps = len({reading.step for reading in readings})
    yield Text(
        f"{len(subjects):,} place(s), trained on in {steps:,} of the {until:,} steps before step "
        f"{until:,}: {targets:,} targets",
        style="bold",
    )
    if readings:
        yield Group(_table(readings[:_MOST_ROWS]))
    if max(len(readings), len(subjects)) > _MOST_ROWS:
        yield Text(f"the first {_MOST_ROWS:,} of each are shown; --json prints all")


def _table(readings: Sequence[Reading]) -> Table:
    table = Table()
    for name in ("step", "window", "targets"):
        table.add_column(name, justify="right")
    for name in ("source", "document"):
        table.add_column(name, overflow="fold")
    for reading in readings:
        numbers = (f"{n:,}" for n in (reading.step, reading.window, reading.targets))
        table.add_row(*numbers, reading.source, Text(visible(reading.doc_id)))
    return table


def _flat(text: str) -> str:
    return visible(text.replace("\n", "\\n"))
