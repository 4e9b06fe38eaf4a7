"""What decontamination made of the documents of one file: some gone, some with a shorter text."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.documents import task_file

CUT, DROPPED, BEFORE = "cut", "dropped", "edited"
"""Folders of the stage: shortened documents, dropped ones, and texts before the cut."""


class Revisions:
    """Revisions of the documents of one file, by document id.

    Args:
        folder: of the decontamination stage; None where a build has none.
        rank: the file's task.
    """

    def __init__(self, folder: Path | None, rank: int) -> None:
        self._gone: frozenset[str] = frozenset()
        self._rows: dict[str, int] = {}
        if folder is not None:
            dropped = pq.read_table(task_file(folder / DROPPED, rank), columns=["doc_id"])
            self._gone = frozenset(dropped["doc_id"].to_pylist())
            self._cut = pq.read_table(task_file(folder / CUT, rank))
            self._rows = {key: row for row, key in enumerate(self._cut["doc_id"].to_pylist())}

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch as decontamination left it; it must have `doc_id`."""
        ids = batch["doc_id"].to_pylist()
        if not any(key in self._gone or key in self._rows for key in ids):
            return batch
        rows = [
            batch.num_rows + self._rows[key] if key in self._rows else row
            for row, key in enumerate(ids)
            if key not in self._gone
        ]
        cut = self._cut.select(batch.schema.names).cast(batch.schema)
        both = pa.concat_tables([pa.Table.from_batches([batch]), cut]).take(rows)
        return both.combine_chunks().to_batches()[0] if rows else batch.slice(0, 0)
