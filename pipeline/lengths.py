"""How long the documents of a dataset are, from its index."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl

STEPS_AN_OCTAVE = 2
"""Bars of the histogram for every doubling of the length."""
QUANTILES = (0.05, 0.5, 0.95)


class Lengths(NamedTuple):
    """The distribution of one kind of length over the documents of a source."""

    documents: int
    mean: float
    quantiles: tuple[int, ...]
    """At `QUANTILES`: the least length that so many documents do not exceed."""
    longest: int
    bars: dict[int, int]
    """Documents by step: step k holds lengths from 2^(k/2) to below 2^((k+1)/2)."""


def lengths(indexes: Iterable[Path], column: str) -> Lengths:
    """The distribution of `char_count` or `token_count` in some shards' indexes.

    Every different length is held once, so the memory does not grow with the documents.
    """
    counts = pl.DataFrame(schema={column: pl.Int64, "n": pl.Int64})
    for path in indexes:
        number = pl.len().cast(pl.Int64).alias("n")
        found = pl.read_parquet(path, columns=[column]).group_by(column).agg(number)
        counts = pl.concat([counts, found]).group_by(column).agg(pl.col("n").sum())
    counts = counts.sort(column).with_columns(upto=pl.col("n").cum_sum())
    total = int(counts["n"].sum())
    step = (pl.col(column).clip(lower_bound=1).log(2) * STEPS_AN_OCTAVE + 1e-9).floor()
    bars = counts.group_by(step.cast(pl.Int64).alias("step")).agg(pl.col("n").sum()).sort("step")
    at = [counts.filter(pl.col("upto") >= q * total)[column][0] for q in QUANTILES]
    return Lengths(
        documents=total,
        mean=float((counts[column] * counts["n"]).sum()) / total,
        quantiles=tuple(at),
        longest=int(counts[column][-1]),
        bars=dict(bars.iter_rows()),
    )
