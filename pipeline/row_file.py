"""Rows into a Parquet file as they come: what is held does not grow with the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import atomic_write

GROUP_ROWS = 1 << 16
"""About so many rows are a row group."""


class RowFile:
    """Appends tables to a file, a row group whenever there is enough for one."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._pending: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        self._pending.append(table)
        self._rows += table.num_rows
        if self._rows >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._pending))
        self._pending, self._rows = [], 0


@contextmanager
def row_file(path: Path, schema: pa.Schema) -> Iterator[RowFile]:
    """A file that appears when the block ends without an exception, with whatever was added."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        rows = RowFile(writer)
        yield rows
        rows.flush()
