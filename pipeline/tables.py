"""JSON lines and Parquet files as documents, through datatrove's readers.

datatrove skips what it cannot read and numbers only what is left. Here every row is a document
with the number it has in its file: rows without text, rows below a score and lines that are no
JSON come out marked with a reason, and are counted in the funnel instead of vanishing.
"""

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import get_datafolder
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.readers.base import BaseDiskReader
from numpy.typing import NDArray

from configs.text_sources import HubSource, JsonlSource, ParquetSource
from pipeline.documents import document
from pipeline.errors import BuildError
from pipeline.streams import InputFile, check_unchanged, open_stream, sound, tracked_lines
from pipeline.task_report import tracked

Rows = HubSource | JsonlSource | ParquetSource
"""Sources whose files hold one document a row."""
_PART_BYTES = 64_000_000  # decides how many tasks there are, whatever the workers
_MAX_PARTS = 10_000
_BATCH_ROWS, _BATCH_BYTES = 1000, 32_000_000


class _EveryRow(BaseDiskReader):
    """What both readers share: one file, or a part of it, a task; one document a row."""

    def __init__(self, files: Sequence[InputFile], spec: Rows) -> None:
        super().__init__(os.curdir)
        self.files, self.spec, self.path, self.file = files, spec, "", ""
        self.part = (0, 1)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of file `rank`."""
        file = self.files[rank]
        self.path, self.file, self.part = file.path, file.name, file.part
        check_unchanged(file)
        self.data_folder = get_datafolder(os.path.dirname(self.path) or os.curdir)
        documents = sound(file.name, self.read_file(os.path.basename(self.path)))
        yield from takewhile(self._is_wanted, documents)

    def _is_wanted(self, doc: Document) -> bool:
        return self.spec.max_rows is None or doc.metadata["origin_row"] < self.spec.max_rows

    def get_document_from_dict(self, data: dict[str, Any], source_file: str, row: int) -> Document:
        """The document of a row; datatrove calls this with every row."""
        spec, path = self.spec, self.file
        _check_columns(f"{path}, row {row}", data, spec)
        text, key = self._text(data, row), row_id(data, path, row, spec)
        url = str(data[spec.url]) if spec.url and data[spec.url] is not None else None
        return document(key, text, path, row, url, self._reason(text, data, row))

    def _text(self, data: dict[str, Any], row: int) -> str:
        parts = [(column, data[column]) for column in text_columns(self.spec)]
        for column, part in parts:
            if not isinstance(part, str) and part is not None:
                kind = type(part).__name__
                raise BuildError(
                    f"{self.file}, row {row}: '{column}' is of type {kind}, not text; set `text` "
                    "of the source to a column of text, or mend the row"
                )
        return self.spec.joiner.join(part for _, part in parts if part)

    def _reason(self, text: str, data: dict[str, Any], row: int) -> str | None:
        if not text:
            return "empty"
        for column, least in self.spec.min_scores.items():
            score = data[column]
            if not isinstance(score, int | float) and score is not None:
                kind = type(score).__name__
                raise BuildError(
                    f"{self.file}, row {row}: '{column}' is of type {kind}, not a number; set "
                    "`min_scores` of the source to columns of numbers, or mend the row"
                )
            if score is None or not score >= least:
                return f"low_{column}"
        return None


def text_columns(spec: Rows) -> tuple[str, ...]:
    """The columns that hold the text."""
    return (spec.text,) if isinstance(spec.text, str) else spec.text


def row_id(data: dict[str, Any], path: str, row: int, spec: Rows) -> str:
    """The document id of a row: its id column, or file and row number."""
    if spec.id is None:
        return f"{spec.id_prefix}{path}#{row}"
    if data[spec.id] is None:
        raise BuildError(f"{path}, row {row}: '{spec.id}' is empty; every document needs an id")
    return f"{spec.id_prefix}{data[spec.id]}"


def _columns(spec: Rows) -> list[str]:
    named = [*text_columns(spec), spec.id, spec.url, *spec.min_scores]
    return [column for column in named if column is not None]


def _check_columns(where: str, there: Collection[str], spec: Rows) -> None:
    for column in _columns(spec):
        if column not in there:
            raise BuildError(
                f"{where}: no column '{column}'; there are {', '.join(map(repr, there))}. "
                "Set `text`, `id`, `url` or `min_scores` of the source to some of them"
            )


class ReadJsonl(_EveryRow, JsonlReader):
    """JSON lines; a line that is no JSON object is a document with the reason `invalid_json`."""

    def read_file(self, filepath: str) -> DocumentsPipeline:
        """Yield one document a line."""
        # Bytes, because one broken character must cost one line, not the rest of the file.
        with ExitStack() as stack:
            lines = tracked_lines(self.path, stack, self.spec.max_document_bytes)
            for row, line in enumerate(lines):
                data, spell = _parsed(line)
                if not isinstance(data, dict):
                    yield self._unread(line, row)
                else:
                    yield spell(self.get_document_from_dict(data, filepath, row))

    def _unread(self, line: bytes | None, row: int) -> Document:
        reason = "too_large" if line is None else "invalid_json" if line.strip() else "empty"
        text = (line or b"").decode("utf-8", "replace").rstrip("\n")
        key = f"{self.spec.id_prefix}{self.file}#{row}"
        return document(key, text, self.file, row, None, reason)


class ReadParquet(_EveryRow, ParquetReader):
    """Parquet rows; only the columns that are asked for are read."""

    def read_file(self, filepath: str) -> DocumentsPipeline:
        """Yield one document a row."""
        with (
            self.data_folder.open(filepath, "rb") as file,
            pq.ParquetFile(file, page_checksum_verification=True) as table,
        ):
            _check_columns(self.file, table.schema_arrow.names, self.spec)
            groups, row = row_groups(table.metadata, *self.part)
            rows = sum(table.metadata.row_group(group).num_rows for group in groups)
            size = batch_rows(table.metadata, groups)
            batches = table.iter_batches(size, groups, _columns(self.spec))
            for batch in tracked(batches, rows, lambda batch: batch.num_rows):
                for data, flaw in self._rows(batch):
                    doc = self.get_document_from_dict(data, filepath, row)
                    doc.metadata["reason"] = flaw or doc.metadata["reason"]
                    yield doc
                    row += 1

    def _rows(self, batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The rows, and what is wrong with a row that cannot be used."""
        batch, large = _without_large(batch, text_columns(self.spec), self.spec.max_document_bytes)
        flaws = ["too_large" if flag else None for flag in large.tolist()]
        try:
            yield from zip(batch.to_pylist(), flaws, strict=True)
        except UnicodeDecodeError:  # raised before the first row
            for row, flaw in enumerate(flaws):
                data, whole = _decoded(batch, row)
                yield data, flaw or (None if whole else "invalid_unicode")


def batch_rows(facts: pq.FileMetaData, groups: list[int]) -> int:
    """Rows of these row groups that are about `_BATCH_BYTES` together."""
    rows = sum(facts.row_group(group).num_rows for group in groups)
    size = sum(facts.row_group(group).total_byte_size for group in groups)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES * rows // max(1, size))))


def _without_large(
    batch: pa.RecordBatch, columns: Sequence[str], most: int
) -> tuple[pa.RecordBatch, NDArray[np.bool_]]:
    """The batch without texts of more than `most` bytes a row; which rows have such."""
    sizes = np.zeros(batch.num_rows, np.int64)
    texts = [name for name in columns if _is_text(batch[name].type)]
    for name in texts:
        sizes += pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy(zero_copy_only=False)
    large = sizes > most
    if not large.any():
        return batch, large
    for name in texts:
        cells = pc.if_else(pa.array(large), pa.scalar(None, batch[name].type), batch[name])
        batch = batch.set_column(batch.schema.get_field_index(name), name, cells)
    return batch, large


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decoded(batch: pa.RecordBatch, row: int) -> tuple[dict[str, Any], bool]:
    """A row whose texts may be no UTF-8, and whether they are."""
    data, whole = {}, True
    for name in batch.schema.names:
        cell = batch[name][row]
        try:
            data[name] = cell.as_py()
        except UnicodeDecodeError:
            data[name], whole = cell.as_buffer().to_pybytes().decode("utf-8", "replace"), False
    return data, whole


def _parsed(line: bytes | None) -> tuple[Any, Callable[[Document], Document]]:
    """What stands in a line, None where it is no JSON; and what its document must go through.

    Python's own parser, which is slower, also reads lone surrogates, NaN, and a byte order mark at
    the start of a file.
    """
    try:
        return orjson.loads(line or b""), _as_it_is
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(line or b""), _spelled
    except (ValueError, RecursionError):
        return None, _as_it_is


def _as_it_is(doc: Document) -> Document:
    return doc


def _spelled(doc: Document) -> Document:
    """The document; one that cannot be written down gets a reason."""
    origin = doc.metadata
    for text in (doc.text, doc.id, origin["url"] or ""):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            origin["reason"] = "invalid_unicode"
    if origin["reason"] == "invalid_unicode":
        doc.text, doc.id = (_replaced(text) for text in (doc.text, doc.id))
        origin["url"] = origin["url"] and _replaced(origin["url"])
    return doc


def _replaced(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def row_groups(facts: pq.FileMetaData, part: int, parts: int) -> tuple[list[int], int]:
    """The row groups of a part of a file, and the number of the first row in them.

    A row group belongs to the part in whose share of the bytes its middle lies.
    """
    sizes = [facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)]
    middles = [sum(sizes[:i]) + size / 2 for i, size in enumerate(sizes)]
    here = [i for i, middle in enumerate(middles) if int(middle * parts / sum(sizes)) == part]
    before = range(here[0]) if here else ()
    return here, sum(facts.row_group(i).num_rows for i in before)


def into_parts(files: Sequence[InputFile], sizes: Sequence[int]) -> list[tuple[InputFile, int]]:
    """Cut large Parquet files into parts, one a task; with their sizes.

    A part has at most 64 MB, more in a source that would have over some 10,000 of them: every
    task has files of its own in every stage.
    """
    out = []
    most = max(_PART_BYTES, sum(sizes) // _MAX_PARTS)
    for file, size in zip(files, sizes, strict=True):
        parts = max(1, -(-size // most))
        out += [(file._replace(part=(i, parts)), size // parts) for i in range(parts)]
    return out


def check_parquet_columns(path: str, spec: Rows, name: str | None = None) -> None:
    """Say at once, before anything runs, that a column is missing.

    Args:
        path: the file's path or address.
        spec: the source, which names columns.
        name: what to call the file in a message; by default its path.

    Raises:
        BuildError: a named column is not in the file, or the file is no Parquet.
    """
    try:
        with ExitStack() as stack:
            names = pq.read_schema(open_stream(path, stack)).names
    except (OSError, ValueError) as error:
        raise BuildError(f"{name or path}: not readable as Parquet ({error})") from None
    _check_columns(name or path, names, spec)
