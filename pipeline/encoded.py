"""What the encoding stage wrote, in the order in which it is packed: as stored, or shuffled.

The order is that of places: the key of the shuffle (0 as stored), the encoding task, the row. So
any range of a source can be read without what lies before it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.documents import task_file
from pipeline.errors import BuildError
from pipeline.tokenizing import tokens_file
from shards.shard_files import Tokens

_BUCKET_DOCUMENTS = 4_000_000
_NAMES = {
    "characters": "char_count",
    "bytes": "byte_count",
    "tokens": "token_count",
    "reason": "split",
}
_PLACES = ["tokens", "content_hash", "reason"]
_COUNTS = ["characters", "bytes", "tokens", "content_hash", "reason"]


class Place(NamedTuple):
    """Where a document is in the order in which its source is packed."""

    key: int
    """Of the shuffle; 0 in a source that is not shuffled."""
    rank: int
    """The encoding task."""
    row: int
    """Among the documents the task kept."""


class EncodedTask:
    """What one task of the encoding stage wrote of the kept documents.

    Args:
        encoded: the stage's folder.
        rank: the task.
        dtype: of a token.
        seed: of the source's shuffle, if it is shuffled.
    """

    def __init__(
        self, encoded: Path, rank: int, dtype: np.dtype[Any], seed: int | None = None
    ) -> None:
        self._rows, self.rank, self._seed = task_file(encoded, rank), rank, seed
        self._path, self._dtype = tokens_file(encoded, rank), dtype

    def tokens(self) -> Tokens:
        """All tokens of the kept documents, mapped."""
        if not self._path.stat().st_size:
            return np.empty(0, self._dtype)
        return np.asarray(np.memmap(self._path, self._dtype, "r"))

    def rows(self, columns: list[str] | None = None) -> pl.DataFrame:
        """Documents as stored: columns as in the index, `split`, `row`, and `start` in the file.

        Raises:
            BuildError: there are more tokens or fewer than these documents have.
        """
        frame = pl.concat(self._kept(columns)).rename(_NAMES, strict=False)
        self._check(int(frame["token_count"].sum()))
        starts = pl.col("token_count").cum_sum() - pl.col("token_count")
        return frame.with_columns(start=starts, row=pl.int_range(pl.len(), dtype=pl.Int64))

    def _check(self, counted: int) -> None:
        size = self._path.stat().st_size // self._dtype.itemsize
        if counted != size:
            raise BuildError(
                f"{self._path}: {size} tokens, its rows count {counted}; the file is damaged: "
                f"delete {self._path.parent} and build again"
            )

    def _kept(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """The same as in the file, a row group at a time."""
        wanted = None if columns is None else [*columns, "stage"]
        with pq.ParquetFile(self._rows) as file:
            yield pl.DataFrame(file.read_row_groups([], wanted)).drop("stage")
            for group in range(file.num_row_groups):
                rows = pl.DataFrame(file.read_row_group(group, wanted))
                yield rows.filter(pl.col("stage") == "pack").drop("stage")

    def placed(self, columns: list[str] | None = None) -> pl.DataFrame:
        """The same, `content_hash` among them, with the rest of their places: `key`, `rank`."""
        rows = self.rows(columns)
        keys = np.zeros(len(rows), np.uint64)
        if self._seed is not None:
            keys = shuffle_keys(rows["content_hash"].to_list(), self._seed)
        return rows.with_columns(key=pl.Series(keys), rank=pl.lit(self.rank, pl.Int64))

    def between(
        self, split: str, first: Place, stop: Place | None, columns: list[str] | None
    ) -> pl.DataFrame:
        """Documents of a split from one place up to another, None for the end, as stored.

        Where all columns are asked for, with None, places are looked at first: the rest of a
        document's row is ten times as large.
        """
        places = self.placed([*_PLACES, *(columns or ())])
        here = _reached(places, self.rank, first) & (places["split"] == split).to_numpy()
        if stop is not None:
            here &= ~_reached(places, self.rank, stop)
        if columns is not None:
            return places.filter(pl.Series(here))
        found, rest, before = pl.Series(here), [], 0
        for rows in self._kept():
            rest.append(rows.filter(found[before : before + len(rows)]))
            before += len(rows)
        chosen = places.filter(found).select("start", "row", "key", "rank")
        return pl.concat(rest).rename(_NAMES).hstack(chosen)


class EncodedSource:
    """All encoding tasks of a source.

    Args:
        encoded: the encoding stage's folder.
        ranks: its tasks that hold the source.
        dtype: of a token.
        seed: of the shuffle, if the source is shuffled.
    """

    def __init__(self, encoded: Path, ranks: range, dtype: np.dtype[Any], seed: int | None) -> None:
        self._encoded, self._ranks, self._dtype, self._seed = encoded, ranks, dtype, seed
        self._tasks: dict[int, EncodedTask] = {}

    def task(self, rank: int) -> EncodedTask:
        """One of the tasks."""
        if rank not in self._tasks:
            self._tasks[rank] = EncodedTask(self._encoded, rank, self._dtype, self._seed)
        return self._tasks[rank]

    def counts(self) -> Iterator[pl.DataFrame]:
        """Counts, splits and places of all documents, batch by batch, in the order of packing."""
        if self._seed is None:
            yield from (self.task(rank).placed(_COUNTS) for rank in self._ranks)
            return
        documents = sum(len(self.task(rank).rows(["tokens"])) for rank in self._ranks)
        num_buckets = max(1, -(-documents // _BUCKET_DOCUMENTS))
        width = 2**64 // num_buckets + 1
        for bucket in range(num_buckets):
            low, high = bucket * width, min((bucket + 1) * width, 2**64) - 1
            parts = (self.task(rank).placed(_COUNTS) for rank in self._ranks)
            chosen = [part.filter(pl.col("key").is_between(low, high)) for part in parts]
            yield pl.concat(chosen).sort("key", "rank", "row")

    def between(
        self, split: str, first: Place, stop: Place | None, columns: list[str] | None = None
    ) -> pl.DataFrame:
        """Documents of a split from one place up to another, in the order of packing.

        Args:
            split: their split.
            first: where they begin.
            stop: the place past the last; None for the end of the source.
            columns: of the encoding stage, beside those that places have; None for all.
        """
        ranks = self._ranks
        if self._seed is None:
            last = ranks[-1] if stop is None else stop.rank
            ranks = range(first.rank, last + 1)
        parts = [self.task(rank).between(split, first, stop, columns) for rank in ranks]
        return pl.concat(parts).sort("key", "rank", "row")

    def document(self, rank: int, start: int, count: int) -> Tokens:
        """The tokens of one document."""
        return self.task(rank).tokens()[start : start + count]

    def tokens(self, rows: pl.DataFrame, batch_documents: int) -> Iterator[Tokens]:
        """The tokens of documents, a batch at a time.

        Only the files that the batch needs are mapped: what is mapped counts as memory in use.
        """
        mapped: dict[int, Tokens] = {}
        for batch in rows.iter_slices(batch_documents):
            needed = batch["rank"].unique().to_list()
            if self._seed is None:
                mapped = {rank: mapped[rank] for rank in needed if rank in mapped}
            mapped |= {rank: self.task(rank).tokens() for rank in needed if rank not in mapped}
            places = zip(batch["rank"], batch["start"], batch["token_count"], strict=True)
            yield np.concatenate([mapped[rank][start : start + n] for rank, start, n in places])


def _reached(rows: pl.DataFrame, rank: int, place: Place) -> NDArray[np.bool_]:
    """Of every document of a task, whether it is at the place or after it."""
    keys, key = rows["key"].to_numpy(), np.uint64(place.key)
    if rank == place.rank:
        later = rows["row"].to_numpy() >= place.row
    else:
        later = np.full(len(rows), rank > place.rank)
    out: NDArray[np.bool_] = (keys > key) | ((keys == key) & later)
    return out


def shuffle_keys(content_hashes: list[bytes], seed: int) -> NDArray[np.uint64]:
    """The numbers that shuffled documents are sorted by: uint64 [num_documents]."""
    halves = np.frombuffer(b"".join(content_hashes), "<u8").reshape(-1, 2)
    keys = halves[:, 0] ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    out: NDArray[np.uint64] = keys ^ (keys >> np.uint64(31))
    return out
