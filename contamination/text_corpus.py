"""Text to audit: .jsonl, .jsonl.gz, .jsonl.zst and .parquet files with one document a row.

The fast path parses only the text column, with Arrow and outside the interpreter lock. Whatever
Arrow refuses (a broken line, a missing text, a lone surrogate) goes line by line through `json`,
which accepts it or says which row is wrong.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
import zstandard

from contamination.corpus import (
    BLOCK_BYTES,
    WHOLE,
    Batch,
    Block,
    Document,
    Part,
    Piece,
    batch_of,
)
from contamination.errors import AuditError
from shards.hashing import blake3_file, blake3_json

_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_MOST_LINE_BYTES = 2 << 30  # a small archive may hold one of any size
_ID_COLUMNS = ("id", "doc_id")


class TextCorpus:
    """A text file or the text files below a folder, in the order of their names."""

    kind = "text"
    unit = "MB"
    unit_scale = 1e-6

    def __init__(self, path: Path, text_column: str, part: Part = WHOLE) -> None:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        files = [file for file in files if file.name.endswith(_SUFFIXES)]
        if not files:
            raise AuditError(
                f"{path}: neither a dataset (no manifest.json) nor text; "
                f"readable: {', '.join(_SUFFIXES)}"
            )
        self._text_column = text_column
        named = {str(f.relative_to(path) if f != path else f.name): f for f in files}
        here = part.names({name: file.stat().st_size for name, file in named.items()})
        self._files = {name: file for name, file in named.items() if name in here}
        self.pieces = tuple(self._piece(name, file) for name, file in self._files.items())
        self.digest = blake3_json([[piece.name, piece.key] for piece in self.pieces])[:32]

    def _piece(self, name: str, file: Path) -> Piece:
        key = blake3_json([blake3_file(file), self._text_column, BLOCK_BYTES])[:32]
        return Piece(name, key, file.stat().st_size)

    def blocks(self, piece: Piece) -> Iterator[Block]:
        """Groups of whole lines, or row groups."""
        file = self._files[piece.name]
        if file.suffix == ".parquet":
            yield from self._row_groups(file, piece)
        else:
            yield from _line_blocks(file, piece)

    def decode(self, block: Block) -> Batch:
        """The text column as bytes."""
        if isinstance(block.content, tuple):
            file, group = block.content
            try:
                column = pq.ParquetFile(file).read_row_group(group, [self._text_column]).column(0)
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                raise AuditError(f"{file}: row group {group}: broken file: {error}") from None
            if column.null_count:
                row = block.first_document + column.is_null().to_pylist().index(True)
                raise AuditError(f"{block.piece}: row {row + 1}: '{self._text_column}' is null")
            return _batch(column)
        return self._decode_lines(block)

    def packed(self, block: Block) -> None:
        """Text has no tokens."""

    def documents(self, piece: Piece, wanted: Sequence[int]) -> Iterator[tuple[int, Document]]:
        """Whole rows, for the few documents that something was found in."""
        remaining = list(wanted)
        for block in self.blocks(piece):
            rows = self._rows(block, remaining, piece)
            for number, row in rows:
                yield number, self._document(row, number, piece)
            remaining = remaining[len(rows) :]
            if not remaining:
                return

    def _rows(self, block: Block, wanted: list[int], piece: Piece) -> list[tuple[int, Any]]:
        if isinstance(block.content, tuple):
            file, group = block.content
            parquet = pq.ParquetFile(file)
            stop = block.first_document + parquet.metadata.row_group(group).num_rows
            here = [number for number in wanted if number < stop]
            table = parquet.read_row_group(group) if here else None
            return [
                (n, table.slice(n - block.first_document, 1).to_pylist()[0])
                for n in here
                if table is not None
            ]
        lines = _lines(block.content)
        here = [number for number in wanted if number < block.first_document + len(lines)]
        where = f"{piece.name}: row"
        return [(n, _parse(lines[n - block.first_document], f"{where} {n + 1}")) for n in here]

    def _document(self, row: dict[str, Any], number: int, piece: Piece) -> Document:
        text = row[self._text_column].encode("utf-8", "surrogatepass")
        own = next((row[c] for c in _ID_COLUMNS if row.get(c) is not None), None)
        doc_id = f"{piece.name}:{number + 1}" if own is None else str(own)
        url = row.get("url")
        source = str(row.get("source") or piece.name)
        return Document(
            text, doc_id, source, "", piece.name, number, url and str(url), None, None, None
        )

    def _row_groups(self, file: Path, piece: Piece) -> Iterator[Block]:
        try:
            metadata = pq.ParquetFile(file).metadata
            columns = pq.read_schema(file).names
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise AuditError(f"{file}: broken file: {error}") from None
        if self._text_column not in columns:
            raise AuditError(f"{file}: no column '{self._text_column}'; it has {columns}")
        first = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            yield Block(piece.name, first, (file, group), piece.size // metadata.num_row_groups)
            first += rows

    def _decode_lines(self, block: Block) -> Batch:
        schema = pa.schema([(self._text_column, pa.string())])
        options = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        reading = pa_json.ReadOptions(use_threads=False, block_size=len(block.content) + 1)
        try:
            table = pa_json.read_json(io.BytesIO(block.content), reading, options)
        except pa.ArrowInvalid:
            table = None
        expected = _count_lines(block.content)
        if table is not None and table.num_rows == expected and not table.column(0).null_count:
            return _batch(table.column(0))
        lines, first = _lines(block.content), block.first_document + 1
        where = f"{block.piece}: row"
        return batch_of([self._text(line, f"{where} {first + k}") for k, line in enumerate(lines)])

    def _text(self, line: bytes, where: str) -> bytes:
        row = _parse(line, where)
        text = row.get(self._text_column)
        if not isinstance(text, str):
            raise AuditError(
                f"{where}: no text in '{self._text_column}' (it has: {', '.join(row)}); "
                "name the column with --text-column"
            )
        return text.encode("utf-8", "surrogatepass")


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise AuditError(f"{where}: expected an object {{...}}")
    return row


def _lines(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n") if line.strip()]


def _count_lines(content: bytes) -> int:
    """len(_lines(content)), without making them where no line can be blank."""
    blank = any(mark in content for mark in (b"\n\n", b"\n\r", b"\n ", b"\n\t"))
    if blank or content[:1].isspace() or content[-1:].isspace():
        return len(_lines(content))
    return content.count(b"\n") + 1


def _batch(column: pa.ChunkedArray) -> Batch:
    array = column.cast(pa.large_string()).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = pa.array([], pa.large_string())
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return Batch(np.frombuffer(data or b"", np.uint8), bounds)


def _line_blocks(file: Path, piece: Piece) -> Iterator[Block]:
    first, progress = 0, 0
    with file.open("rb") as raw:
        try:
            for content in _whole_lines(_decompressed(raw, file)):
                position = raw.tell()
                yield Block(piece.name, first, content, position - progress)
                progress = position
                first += _count_lines(content)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise AuditError(f"{file}: broken file: {error}") from None


def _decompressed(raw: IO[bytes], file: Path) -> Any:
    if file.suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if file.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return raw


def _whole_lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(BLOCK_BYTES):
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield rest + head
            rest = tail
        else:
            rest += chunk
            if len(rest) > _MOST_LINE_BYTES:
                raise AuditError(
                    f"a line of more than {_MOST_LINE_BYTES >> 30} GiB: no document a line"
                )
    if rest.strip():
        yield rest
