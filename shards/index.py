"""The document index: one Parquet row a document, beside every token shard.

Beside the index lies a table of ids (`shards.hash_table`): hash of an id -> row. It has the ids
of folded duplicates too, which lead to the row of the document that was kept.
"""

from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl

from shards.hash_table import write_table
from shards.hashing import document_keys

GROUP_ROWS = 1024
"""Rows in a row group: what must be read to see one of them, against the size of the footer."""

SCORE = pl.Struct({"name": pl.String, "value": pl.Float64})

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "doc_id": pl.String,
    "token_start": pl.Int64,  # position of the document's first token in the shard
    "token_count": pl.Int64,  # EOS included
    "char_count": pl.Int64,
    "byte_count": pl.Int64,  # UTF-8 bytes of the text
    "content_hash": pl.Binary,  # 16 bytes of BLAKE3 of the UTF-8 text
    "origin_file": pl.String,
    "origin_row": pl.Int64,
    "url": pl.String,
    "duplicates": pl.List(pl.String),  # ids of the documents folded into this one
    "scores": pl.List(SCORE),  # kept by filters
}


class DocumentRow(NamedTuple):
    """One document without its tokens."""

    doc_id: str
    char_count: int
    byte_count: int
    content_hash: bytes
    origin_file: str
    origin_row: int
    url: str | None
    duplicates: list[str]
    scores: dict[str, float]


def index_frame(rows: list[DocumentRow], token_counts: list[int]) -> pl.DataFrame:
    """Make the index of a shard from its documents in order."""
    ends = pl.Series(token_counts, dtype=pl.Int64).cum_sum()
    records = [
        row._asdict() | {"scores": [{"name": n, "value": v} for n, v in row.scores.items()]}
        for row in rows
    ]
    frame = pl.DataFrame(records, schema={k: v for k, v in SCHEMA.items() if k[:6] != "token_"})
    counts = pl.Series("token_count", token_counts, dtype=pl.Int64)
    starts = (ends - counts).alias("token_start")
    return frame.with_columns(starts, counts).select(list(SCHEMA))


def write_index(frame: pl.DataFrame, file: IO[Any]) -> None:
    """Write the index of a shard as Parquet."""
    frame.write_parquet(file, compression="zstd", row_group_size=GROUP_ROWS)


def write_ids(frame: pl.DataFrame, file: IO[Any]) -> None:
    """Write the table of ids that belongs to an index."""
    rows = frame.select("doc_id", "duplicates").with_row_index("row")
    folded = rows.select("row", doc_id="duplicates").explode("doc_id").drop_nulls()
    named = pl.concat([rows.select("row", "doc_id"), folded])
    keys = np.frombuffer(document_keys(named["doc_id"].to_list()), "<u4")
    write_table(file, keys, named["row"].to_numpy())
