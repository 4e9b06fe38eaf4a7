"""Single documents of a stream, found by token or by id without reading the whole index.

Row groups of the index are small and in token order, so the file's own statistics say which of
them hold a token; the table of ids beside it (`shards.index`) says which row may hold an id.
"""

import bisect
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from shards.hash_table import find_values
from shards.hashing import document_keys
from shards.reader import TokenStream

_COLUMNS = ("doc_id", "token_start", "token_count", "origin_file", "origin_row", "url")


class Document(NamedTuple):
    """Where one document is, and where it came from."""

    source: str
    split: str
    doc_id: str
    origin: str
    """File and row upstream."""
    url: str | None
    start: int
    """First token, counted in the stream."""
    stop: int
    """One past the last, its EOS."""


class DocumentReader:
    """Looks up documents of one stream."""

    def __init__(self, stream: TokenStream) -> None:
        self.stream = stream

    def overlapping(self, ranges: Iterable[tuple[int, int]]) -> Iterator[list[Document]]:
        """The documents that have tokens in each of the ranges [start, stop) of the stream.

        Args:
            ranges: in any order; each document is read once for all ranges in its shard.
        """
        asked = list(ranges)
        found: list[list[Document]] = [[] for _ in asked]
        for shard, pieces in groupby(sorted(self._by_shard(asked)), key=lambda piece: piece[0]):
            group = list(pieces)
            index = _IndexFile(self.stream, shard)
            index.load([(start, stop) for _, _, start, stop in group])
            for _, number, start, stop in group:
                found[number] += index.holding(start, stop)
        return iter(found)

    def find(self, doc_id: str) -> Document | None:
        """The document of that id, or the one that a duplicate of that id was folded into."""
        key = int.from_bytes(document_keys([doc_id]), "little")
        for shard, facts in enumerate(self.stream.facts.shards):
            (rows,) = find_values(self.stream.files.path(facts.ids_path), [key])
            for row in rows:
                if row >= facts.documents:
                    continue
                document = _IndexFile(self.stream, shard).named(row, doc_id)
                if document:
                    return document
        for facts in self.stream.facts.shards:  # a damaged table may have hidden it
            self.stream.files.check(facts.ids_path)
        return None

    def at(self, shard: int, row: int) -> Document:
        """The document in that row of a shard's index."""
        index = _IndexFile(self.stream, shard)
        return index.document(index.row(row, _COLUMNS))

    def _by_shard(self, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
        """Cut ranges at the shards' borders: (shard, number of the range, start, stop)."""
        borders = self.stream.starts
        for number, (start, stop) in enumerate(ranges):
            while start < stop:
                shard = bisect.bisect_right(borders, start) - 1
                end = min(stop, borders[shard + 1])
                yield shard, number, start, end
                start = end


class _IndexFile:
    """The index of one shard, opened."""

    def __init__(self, stream: TokenStream, shard: int) -> None:
        self._stream, self._base = stream, stream.starts[shard]
        name = stream.facts.shards[shard].index_path
        self._file = pq.ParquetFile(stream.files.checked(name))

    def load(self, ranges: list[tuple[int, int]]) -> None:
        """Read the row groups that hold these tokens of the stream."""
        firsts, wanted = self._group_starts(), set[int]()
        for start, stop in ranges:
            low = bisect.bisect_right(firsts, start) - 1
            wanted |= set(range(low, bisect.bisect_left(firsts, stop)))
        self._rows = self._file.read_row_groups(sorted(wanted), list(_COLUMNS), use_threads=False)
        self._starts = self._base + np.concatenate(
            [_integers(chunk) for chunk in self._rows["token_start"].chunks]
        )

    def holding(self, start: int, stop: int) -> list[Document]:
        """The documents, of those loaded, that have tokens in [start, stop)."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop))
        rows = self._rows.slice(first, last - first).to_pylist()
        return [self.document(row) for row in rows]

    def document(self, row: dict[str, Any]) -> Document:
        """A row of the index as a document."""
        start = self._base + row["token_start"]
        return Document(
            source=self._stream.source,
            split=self._stream.split,
            doc_id=row["doc_id"],
            origin=f"{row['origin_file']}:{row['origin_row']}",
            url=row["url"],
            start=start,
            stop=start + row["token_count"],
        )

    def named(self, number: int, doc_id: str) -> Document | None:
        """The document in that row if it, or a duplicate folded into it, has that id."""
        row = self.row(number, (*_COLUMNS, "duplicates"))
        names = {row["doc_id"], *row["duplicates"]}
        return self.document(row) if doc_id in names else None

    def row(self, number: int, columns: tuple[str, ...]) -> dict[str, Any]:
        """One row by its number."""
        metadata, group = self._file.metadata, 0
        while number >= metadata.row_group(group).num_rows:
            number -= metadata.row_group(group).num_rows
            group += 1
        table = self._file.read_row_group(group, list(columns), use_threads=False)
        found: dict[str, Any] = table.slice(number, 1).to_pylist()[0]
        return found

    def _group_starts(self) -> list[int]:
        """Stream position of the first token of every row group."""
        metadata = self._file.metadata
        column = self._file.schema.names.index("token_start")
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        return [self._base + group.column(column).statistics.min for group in groups]


def _integers(chunk: Any) -> npt.NDArray[np.int64]:
    """An int64 column without nulls; pyarrow's own way would load pandas, 0.2 seconds."""
    values = np.frombuffer(chunk.buffers()[1], np.int64)
    return values[chunk.offset : chunk.offset + len(chunk)]
