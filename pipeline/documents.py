"""Documents between two stages: one Parquet file a task, whole or absent.

Every stage reads and writes the same columns (`SCHEMA`). A row with a `reason` is a document that
a stage does not pass on; it is kept in a side file so that its tokens can be counted later.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from pipeline.errors import BuildError
from pipeline.task_report import tracked
from pipeline.unique_ids import refuse_repeated_ids
from shards.atomic import atomic_write
from shards.hashing import content_hash

SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text", pa.large_string()),
        ("characters", pa.int64()),
        ("bytes", pa.int64()),  # of the text in UTF-8
        ("content_hash", pa.binary(16)),
        ("origin_file", pa.string()),
        ("origin_row", pa.int64()),  # row, line or block in that file, counted from 0
        ("url", pa.string()),
        ("reason", pa.string()),  # why it was dropped; null for documents that go on
    ]
)
UNREADABLE = frozenset(
    {
        "empty",
        "too_large",
        "invalid_json",
        "invalid_unicode",
        "not_html",
        "extraction_failed",
        "extraction_timeout",
    }
)
"""Reasons that readers give; all others come from filter rules."""
_BATCH_CHARACTERS, _BATCH_ROWS = 8_000_000, 50_000


def task_file(folder: Path, rank: int) -> Path:
    """The file that task `rank` of a stage writes or reads in `folder`."""
    return folder / f"{rank:05d}.parquet"


def document(
    doc_id: str,
    text: str,
    origin_file: str,
    origin_row: int,
    url: str | None = None,
    reason: str | None = None,
) -> Document:
    """A datatrove document with the metadata that all our stages carry."""
    origin = {"origin_file": origin_file, "origin_row": origin_row, "url": url}
    return Document(text=text, id=doc_id, metadata=origin | {"reason": reason})


class DocumentFile:
    """Writes documents into one Parquet file, which appears when the `with` block succeeds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._characters = 0

    def __enter__(self) -> "DocumentFile":
        options = {"compression": "zstd", "use_dictionary": ["origin_file", "reason"]}
        with ExitStack() as stack:  # leaves nothing open where the disk fails
            file = stack.enter_context(atomic_write(self._path))
            self._writer = stack.enter_context(pq.ParquetWriter(file, SCHEMA, **options))
            stack.push(self._write_rest)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _write_rest(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()

    def add(self, doc: Document, reason: str | None = None) -> None:
        """Append a document, with the reason where it is being dropped."""
        origin = {key: doc.metadata[key] for key in ("origin_file", "origin_row", "url")}
        size = len(doc.text.encode("utf-8"))
        row = {"doc_id": doc.id, "text": doc.text, "characters": len(doc.text), "bytes": size}
        row |= {"content_hash": content_hash(doc.text), **origin}
        self._rows.append(row | {"reason": reason or doc.metadata["reason"]})
        self._characters += len(doc.text)
        if self._characters > _BATCH_CHARACTERS or len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._rows, self._characters = [], 0


class WriteDocuments(PipelineStep):
    """Last step of a stage: what reaches it goes into the task's file."""

    type = "💽 - WRITER"
    name = "documents"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Write and pass on every document of task `rank`."""
        with DocumentFile(task_file(self.folder, rank)) as file:
            for doc in data:
                file.add(doc)
                yield doc


class ReadDocuments(PipelineStep):
    """First step of a stage: the documents an earlier stage's task of the same rank wrote."""

    type = "📖 - READER"
    name = "documents"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of task `rank` in the order they were written."""
        for row in read_rows(task_file(self.folder, rank)):
            yield document(
                *(row[k] for k in ("doc_id", "text", "origin_file", "origin_row", "url", "reason"))
            )


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a documents file, batch by batch."""
    with pq.ParquetFile(path) as file:
        for batch in tracked(
            file.iter_batches(batch_size=1000), file.metadata.num_rows, lambda batch: batch.num_rows
        ):
            yield from batch.to_pylist()


def count(folder: Path, num_tasks: int) -> dict[str, Any]:
    """Documents and characters in the files of a folder, counted from their rows."""
    counted = pl.len().alias("documents"), pl.col("characters").sum()
    files = (pl.scan_parquet(task_file(folder, rank)) for rank in range(num_tasks))
    tasks = [file.select(*counted).collect().row(0) for file in files]
    documents, characters = (sum(task[i] for task in tasks) for i in (0, 1))
    return {"documents": documents, "characters": characters, "tasks": tasks}


def recount_extracted(name: str, num_tasks: int, directory: Path) -> dict[str, Any]:
    """What the stage that read a source left, counted.

    Raises:
        BuildError: no documents, or two with the same id.
    """
    folder = directory / "documents"
    facts = count(folder, num_tasks)
    if not facts["documents"]:
        raise BuildError(f"source '{name}': its files hold no documents; check what it names")
    paths = [task_file(folder, rank) for rank in range(num_tasks)]
    refuse_repeated_ids(name, paths, facts["documents"])
    return facts
