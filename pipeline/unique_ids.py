"""Document ids that occur twice, found in passes over ranges of their hashes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import BuildError

_PART_IDS = 16_000_000


def refuse_repeated_ids(source: str, paths: list[Path], num_ids: int) -> None:
    """Raise BuildError where an id occurs twice in a source: decisions are keyed by it.

    Args:
        source: name for the message.
        paths: its files of documents.
        num_ids: how many documents they hold.
    """
    parts = max(1, -(-num_ids // _PART_IDS))
    for part in range(parts):
        hashes = np.sort(np.concatenate([_hashes(ids, part, parts) for ids in _ids(paths)]))
        again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if len(again):  # of equal ids or, once in 10^8 corpora, of different ones
            found = pl.concat([ids.filter(ids.hash().is_in(again)) for ids in _ids(paths)])
            repeated = found.filter(found.is_duplicated()).unique().sort().to_list()
            refuse_ids([(doc_id, source) for doc_id in repeated])


def refuse_ids(pairs: list[tuple[str, str]]) -> None:
    """Raise BuildError if there are any (id, source)."""
    if pairs:
        shown = ", ".join(f"'{doc_id}' ({source})" for doc_id, source in pairs[:5])
        raise BuildError(
            f"document ids must be unique in a dataset; these occur again: {shown}. "
            "Name another `id` column, leave `id` out, or set `id_prefix` of a source"
        )


def _ids(paths: list[Path]) -> Iterator[pl.Series]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield pl.Series(file.read_row_group(group, ["doc_id"])["doc_id"])


def _hashes(ids: pl.Series, part: int, parts: int) -> NDArray[np.uint64]:
    hashes = ids.hash().to_numpy()
    here: NDArray[np.uint64] = hashes[hashes % np.uint64(parts) == part]
    return here
