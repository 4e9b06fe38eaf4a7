"""JSON lines and Parquet files as documents, through datatrove's readers.

datatrove skips what it cannot read and numbers only what is left. Here every row is a document
with the number it has in its file: rows without text and lines that are no JSON come out marked
with a reason, and are counted in the funnel instead of vanishing.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import get_datafolder
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.readers.base import BaseDiskReader
from zstandard import ZstdDecompressor

from configs.build import JsonlSource, ParquetSource
from pipeline.documents import document
from pipeline.errors import BuildError


class _EveryRow(BaseDiskReader):
    """What both readers share: one file a task, one document a row."""

    def __init__(self, files: list[str], spec: JsonlSource | ParquetSource) -> None:
        super().__init__(os.curdir)
        self.files, self.spec, self.file = files, spec, ""

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of file `rank`."""
        self.file = self.files[rank]
        self.data_folder = get_datafolder(os.path.dirname(self.file) or os.curdir)
        yield from self.read_file(os.path.basename(self.file))

    def get_document_from_dict(self, data: dict[str, Any], source_file: str, row: int) -> Document:
        """The document of a row; datatrove calls this with every row."""
        spec, path = self.spec, self.file
        for column in (spec.text, spec.id, spec.url):
            if column is not None and column not in data:
                raise _no_column(path, row, column, list(data))
        text, key = data[spec.text], row_id(data, path, row, spec)
        if not isinstance(text, str) and text is not None:
            kind = type(text).__name__
            raise BuildError(f"{path}, row {row}: '{spec.text}' is of type {kind}, not text")
        url = str(data[spec.url]) if spec.url and data[spec.url] is not None else None
        return document(key, text or "", path, row, url, None if text else "empty")


def row_id(data: dict[str, Any], path: str, row: int, spec: JsonlSource | ParquetSource) -> str:
    """The document id of a row: its id column, or file and row number."""
    if spec.id is None:
        return f"{spec.id_prefix}{path}#{row}"
    if data[spec.id] is None:
        raise BuildError(f"{path}, row {row}: '{spec.id}' is empty; every document needs an id")
    return f"{spec.id_prefix}{data[spec.id]}"


def _no_column(path: str, row: int, column: str, there: list[str]) -> BuildError:
    return BuildError(
        f"{path}, row {row}: no column '{column}'; there are {', '.join(map(repr, there))}. "
        "Set `text`, `id` or `url` of the source to one of them"
    )


class ReadJsonl(_EveryRow, JsonlReader):
    """JSON lines; a line that is no JSON object is a document with the reason `invalid_json`."""

    def read_file(self, filepath: str) -> DocumentsPipeline:
        """Yield one document a line."""
        # Bytes, because one broken character must cost one line, not the rest of the file.
        with ExitStack() as stack:
            for row, line in enumerate(self._lines(filepath, stack)):
                try:
                    data = orjson.loads(line)
                except orjson.JSONDecodeError:
                    data = None
                if isinstance(data, dict):
                    yield self.get_document_from_dict(data, filepath, row)
                else:
                    text = line.decode("utf-8", "replace").rstrip("\n")
                    key = f"{self.spec.id_prefix}{self.file}#{row}"
                    yield document(key, text, self.file, row, None, "invalid_json")

    def _lines(self, filepath: str, stack: ExitStack) -> Iterable[bytes]:
        if not filepath.endswith(".zst"):
            opened = self.data_folder.open(filepath, "rb", compression="infer")
            return cast(Iterable[bytes], stack.enter_context(opened))
        # fsspec stops after the first frame of a .zst file, without a word.
        packed = stack.enter_context(self.data_folder.open(filepath, "rb"))
        reader = ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        return BufferedReader(stack.enter_context(reader))


class ReadParquet(_EveryRow, ParquetReader):
    """Parquet rows."""


def check_parquet_columns(path: Path, spec: ParquetSource) -> None:
    """Say at once, before anything runs, that a column is missing.

    Raises:
        BuildError: a named column is not in the file, or the file is no Parquet.
    """
    try:
        names = pq.read_schema(path).names
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: not readable as Parquet ({error})") from None
    for column in (spec.text, spec.id, spec.url):
        if column is not None and column not in names:
            raise _no_column(str(path), 0, column, names)
