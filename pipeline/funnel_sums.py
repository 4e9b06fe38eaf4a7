"""What the funnel needs to know of a task's documents; counted by the task that encodes them.

So the manifest of a build is made from a few numbers of every task, however many documents it has.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from shards.atomic import write_json_atomic

PASSAGES, DECONTAMINATE = REVISING = ("passages", "decontaminate")
EDITING = ("filter", *REVISING)
"""The stages that may edit text, in order."""
SIZES = ("characters", "tokens")
_COLUMNS = ["doc_id", *SIZES, "stage", "reason"]
_PART_ROWS = 1_000_000
_AT = [f"{size}{before}" for size in SIZES for before in ("", *map("_{}".format, EDITING))]
_CHANGES = [f"{size}_{way}" for size in SIZES for way in ("removed", "added")]
_NAMES = {"stage": pl.String(), "reason": pl.String()}
_ENDS, _EDITS = (
    _NAMES | dict.fromkeys(("documents", *sizes), pl.Int64()) for sizes in (_AT, _CHANGES)
)


class Sums(NamedTuple):
    """What the funnel needs to know of the documents of a task, however many they are."""

    ends: pl.DataFrame
    """By `stage` and `reason` in which documents ended: how many, and their characters and tokens
    before each editing stage (`_filter`, `_decontaminate`) and after the last edit."""
    edits: pl.DataFrame
    """By `stage` and `reason`: what the edit of that name changed, columns as `Edited`."""


def write_sums(path: Path, rows: Path, edits: Path) -> None:
    """Write the `sums` of a task's files.

    Args:
        path: the JSON file to write.
        rows: Parquet file of what `sums` needs of every document.
        edits: Parquet file of the same of every text before an edit.
    """
    parts = map(pl.concat, zip(*_some_at_a_time(rows, edits), strict=True))
    found = [part.sort("stage", "reason").to_dicts() for part in parts]
    write_json_atomic(path, dict(zip(Sums._fields, found, strict=True)))


def read_sums(paths: Iterable[Path]) -> Sums:
    """What `write_sums` wrote of some tasks, together."""
    tasks = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    rows = ([row for task in tasks for row in task[name]] for name in Sums._fields)
    return Sums(*map(pl.DataFrame, rows, (_ENDS, _EDITS)))


def _some_at_a_time(rows: Path, edits: Path) -> Iterator[Sums]:
    files = [pl.scan_parquet(path).select(_COLUMNS) for path in (rows, edits)]
    parts = max(1, -(-pq.read_metadata(rows).num_rows // _PART_ROWS))
    for part in range(parts):
        here = pl.col("doc_id").hash() % parts == part
        yield sums(*(file.filter(here).collect() for file in files))


def sums(rows: pl.DataFrame, edits: pl.DataFrame) -> Sums:
    """Count the documents of one task.

    Args:
        rows: every document that was read, with the `stage` it ended in, `reason` and `tokens`.
        edits: every text before an edit, in order, with the editing `stage` and the edit as its
            `reason`; `doc_id` names the row of the text after the last one.
    """
    edits = _with_sizes_after(rows, edits)
    for place, stage in enumerate(EDITING):
        later = edits.filter(pl.col("stage").is_in(EDITING[place:]))
        rows = _with_sizes_before(rows, later, stage)
    ends = rows.group_by("stage", "reason").agg(
        pl.len().cast(pl.Int64).alias("documents"), pl.col(_AT).sum()
    )
    shorter = {name: pl.col(name) - pl.col(f"{name}_after") for name in SIZES}
    changed = {f"{n}_removed": d.clip(lower_bound=0).sum() for n, d in shorter.items()}
    changed |= {f"{n}_added": (-d).clip(lower_bound=0).sum() for n, d in shorter.items()}
    number = pl.len().cast(pl.Int64)
    return Sums(ends, edits.group_by("stage", "reason").agg(documents=number, **changed))


def _with_sizes_before(rows: pl.DataFrame, edits: pl.DataFrame, stage: str) -> pl.DataFrame:
    """The documents with their sizes before a stage, given the edits of it and of later ones."""
    first = edits.unique("doc_id", keep="first", maintain_order=True)
    found = first.select("doc_id", *(pl.col(n).alias(f"{n}_{stage}") for n in SIZES))
    filled = (pl.coalesce(f"{n}_{stage}", n).alias(f"{n}_{stage}") for n in SIZES)
    return rows.join(found, "doc_id", "left").with_columns(filled)


def _with_sizes_after(rows: pl.DataFrame, edits: pl.DataFrame) -> pl.DataFrame:
    """The edits with `characters_after` and `tokens_after`.

    Args:
        rows: documents after their last edit.
        edits: texts before every edit, those of a document in order.
    """
    last = rows.select("doc_id", last_characters="characters", last_tokens="tokens")
    joined = edits.join(last, "doc_id", "left", maintain_order="left")
    # A missing document changes nothing here; the balance fails for want of it.
    after = {
        f"{name}_after": pl.coalesce(pl.col(name).shift(-1).over("doc_id"), f"last_{name}", name)
        for name in SIZES
    }
    return joined.with_columns(**after).drop("last_characters", "last_tokens")
