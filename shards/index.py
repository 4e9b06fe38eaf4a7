"""The document index: one Parquet row a document, beside every token shard."""

from typing import NamedTuple

import polars as pl

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
