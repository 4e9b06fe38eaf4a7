"""What later stages made of the documents of one file: some gone, some with a shorter text."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.documents import task_file

CUT, DROPPED, BEFORE = "cut", "dropped", "edited"
"""Folders of such a stage: shortened documents, dropped ones, and texts before the cut."""
PLACES = "places"
"""Folder of the places of benchmark items that decontamination found."""
_BATCH_ROWS = 256


def revision_files(folders: Sequence[Path], rank: int) -> list[Path]:
    """All that such stages wrote of the documents of a file."""
    return [task_file(folder / name, rank) for folder in folders for name in (CUT, DROPPED, BEFORE)]


class Revisions:
    """Revisions of the documents of one file, by document id.

    Args:
        folders: of the stages that revised them, in order; in many builds there are none.
        rank: the file's task.
    """

    def __init__(self, folders: Sequence[Path], rank: int) -> None:
        self._steps = [_Revision(folder, rank) for folder in folders]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch as the last stage left it; it must have `doc_id`.

        The batches of a file must come in order, and all of them.
        """
        for step in self._steps:
            batch = step.apply(batch)
        return batch


class _Revision:
    """What one stage did."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._gone = _ids(task_file(folder / DROPPED, rank))
        self._file = pq.ParquetFile(task_file(folder / CUT, rank))
        self._changed = _ids(task_file(folder / CUT, rank))
        self._stored = self._file.iter_batches(_BATCH_ROWS)
        self._next = self._file.schema_arrow.empty_table()

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch["doc_id"].to_pylist()
        changed = [key for key in ids if key in self._changed]
        if not changed and self._gone.isdisjoint(ids):
            return batch
        cut = self._take(changed).select(batch.schema.names).cast(batch.schema)
        place = {key: batch.num_rows + row for row, key in enumerate(changed)}
        rows = [place.get(key, row) for row, key in enumerate(ids) if key not in self._gone]
        both = pa.concat_tables([pa.Table.from_batches([batch]), cut]).take(rows)
        return both.combine_chunks().to_batches()[0] if rows else batch.slice(0, 0)

    def _take(self, keys: list[str]) -> pa.Table:
        """The next shortened documents, which lie in the order of the file."""
        while self._next.num_rows < len(keys):
            more = pa.Table.from_batches([next(self._stored)])
            self._next = pa.concat_tables([self._next, more])
        taken, self._next = self._next.slice(0, len(keys)), self._next.slice(len(keys))
        assert taken["doc_id"].to_pylist() == keys, "documents were revised in another order"
        return taken


def _ids(path: Path) -> frozenset[str]:
    return frozenset(pq.read_table(path, columns=["doc_id"])["doc_id"].to_pylist())
