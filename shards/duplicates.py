"""Documents with the same text among the sources of a plan, and what that does to its accounts.

Datasets built apart may hold the same document, and a dataset that was imported may hold it twice.
The document index has a 128-bit hash of every text, so the copies are found once, when the plan is
made, and kept beside RUN/plan.json: they change what is unique, not what is read.

Targets of copies are the same target where they stand at the same place of the document (EOS
included). At every place, the copy that is read first makes the target unique; the other ones are
*duplicate targets* of their sources from the step on that reads them.
"""

import bisect
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from blake3 import blake3

from shards.atomic import atomic_write
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.reader import TokenStream

if TYPE_CHECKING:
    from shards.plan import Plan

Ids = npt.NDArray[np.int64]
_TEXT = ("content_hash", "token_count")  # equal texts of equal length in tokens


class Overlap(NamedTuple):
    """What two streams share."""

    first: str
    second: str
    documents: int
    """Documents of `second` whose text is in `first`; further copies, where both are one stream."""
    tokens: int
    """Their tokens in `second`."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The copies, one row each."""

    frame: pl.DataFrame
    """group (equal text), source (its number in the plan), token_start, token_count: int64."""

    def overlaps(self, names: list[str]) -> list[Overlap]:
        """Pairs of streams with documents in common, in the order of the plan's sources."""
        counts = self.frame.group_by("source", "group").agg(
            pl.len().alias("documents"), pl.col("token_count").first()
        )
        parts = {s: counts.filter(pl.col("source") == s) for s in range(len(names))}
        found = [_within(names[s], part) for s, part in parts.items()]
        found += [_between(names, parts, a, b) for a, b in combinations(parts, 2)]
        return [overlap for overlap in found if overlap.documents]

    def among(self, num_sources: int) -> "Duplicates":
        """Those in the first sources of the plan."""
        return Duplicates(self.frame.filter(pl.col("source") < num_sources))

    def save(self, run: Path) -> dict[str, str | int]:
        """Write RUN/duplicates-HASH.parquet; returns what plan.json says of it."""
        buffer = io.BytesIO()
        self.frame.write_parquet(buffer)
        digest = blake3(buffer.getvalue()).hexdigest()
        # Named by its content: until plan.json is replaced, the file of the plan before is there.
        path = run / f"duplicates-{digest[:16]}.parquet"
        with atomic_write(path) as file:
            file.write(buffer.getvalue())
        return {"file": path.name, "documents": len(self.frame), "blake3": digest}

    @classmethod
    def load(cls, run: Path, facts: Mapping[str, Any]) -> "Duplicates":
        """Read the file that RUN/plan.json names.

        Raises:
            DatasetError: missing, or changed.
        """
        try:
            path, digest = run / Path(facts["file"]).name, facts["blake3"]
        except (KeyError, TypeError, IndexError) as error:
            raise DatasetError(f"{run}: plan.json does not name its duplicates ({error})") from None
        if not path.is_file() or blake3_file(path) != digest:
            raise DatasetError(
                f"{path}: missing or changed since the plan was made, so unique tokens cannot be "
                "counted; restore the file"
            )
        return cls(pl.read_parquet(path))


def find_duplicates(streams: Mapping[int, TokenStream]) -> Duplicates | None:
    """Documents that occur more than once in these streams, by number of the source; None if none.

    Texts are compared by the first half of their hash, and those that agree by the whole: at
    10 M documents this takes seconds.
    """
    parts = [_texts(number, stream) for number, stream in streams.items()]
    if not parts:
        return None
    texts = pl.concat(parts)
    half = pl.col("content_hash").bin.head(8).bin.reinterpret(dtype=pl.UInt64)
    copies = texts.filter(half.is_duplicated())
    copies = copies.filter(pl.struct(_TEXT).is_duplicated()).sort("source", "token_start")
    if not len(copies):
        return None
    group = pl.struct(_TEXT).rank("dense").cast(pl.Int64).alias("group")
    return Duplicates(copies.select(group, "source", "token_start", "token_count"))


def _texts(number: int, stream: TokenStream) -> pl.DataFrame:
    frames = []
    columns = ["content_hash", "token_start", "token_count"]
    for shard, start in zip(stream.facts.shards, stream.starts, strict=False):
        frame = pl.read_parquet(stream.files.checked(shard.index_path), columns=columns)
        frames.append(frame.with_columns(pl.col("token_start") + start))
    return pl.concat(frames).with_columns(source=pl.lit(number, dtype=pl.Int64))


def _within(name: str, part: pl.DataFrame) -> Overlap:
    again = part.filter(pl.col("documents") > 1).with_columns(pl.col("documents") - 1)
    return _overlap(name, name, again)


def _between(names: list[str], parts: Mapping[int, pl.DataFrame], a: int, b: int) -> Overlap:
    shared = parts[b].join(parts[a].select("group"), on="group", how="semi")
    return _overlap(names[a], names[b], shared)


def _overlap(first: str, second: str, part: pl.DataFrame) -> Overlap:
    documents = part["documents"].cast(pl.Int64)
    return Overlap(
        first, second, int(documents.sum()), int((documents * part["token_count"]).sum())
    )


class DuplicateTargets:
    """Duplicate targets of every source, by the step that reads them first.

    Args:
        source: the source whose target it is, [n].
        step: the step, [n].
        targets: how many, [n].
        num_sources: sources of the plan.
    """

    def __init__(self, source: Ids, step: Ids, targets: Ids, num_sources: int) -> None:
        order = np.argsort(step, kind="stable")
        source, step, targets = source[order], step[order], targets[order]
        self._steps = [step[source == s] for s in range(num_sources)]
        self._sums = [np.cumsum(targets[source == s]) for s in range(num_sources)]

    def before(self, source: int, step: int) -> int:
        """Duplicate targets that the steps before `step` read of a source."""
        number = bisect.bisect_left(self._steps[source], step)
        return int(self._sums[source][number - 1]) if number else 0


def duplicate_targets(plan: "Plan", duplicates: Duplicates) -> DuplicateTargets:
    """Work out which copy is read first at every place of every duplicated document."""
    frame = duplicates.frame
    reads = [
        _first_reads(plan, source, seq_len, shift, rows)
        for source in range(len(plan.sources))
        for seq_len, shift in plan.passes(source)
        if len(rows := frame.with_row_index("copy").filter(pl.col("source") == source))
    ]
    empty = np.empty(0, dtype=np.int64)
    copy, low, high, step = (
        np.concatenate([empty, *(getattr(read, name) for read in reads)]) for name in _Reads._fields
    )
    group = frame["group"].to_numpy()[copy]
    return _later_copies(plan, frame["source"].to_numpy(), group, _Reads(copy, low, high, step))


class _Reads(NamedTuple):
    """Parts of documents, and the step that reads them first in windows of some length."""

    copy: Ids
    low: Ids
    """First target, counted from the document's first token."""
    high: Ids
    step: Ids


def _first_reads(plan: "Plan", source: int, seq_len: int, shift: int, rows: pl.DataFrame) -> _Reads:
    """Parts of copies in one source that windows of one length read, in one pass over it.

    Args:
        plan: the plan.
        source: number of the source.
        seq_len: length of the windows.
        shift: tokens read before this pass; rows are numbered on over the end of the stream.
        rows: the copies.
    """
    layout = plan.layout(source, seq_len)
    start = rows["token_start"].to_numpy() + shift
    stop = start + rows["token_count"].to_numpy()
    first = np.maximum(start - 1, 0) // layout.stride
    last = np.maximum(stop - 2, 0) // layout.stride
    if not plan.rows:
        last = np.minimum(last, layout.windows - 1)
    counts = np.maximum(last - first + 1, 0)
    place = np.repeat(np.arange(len(rows)), counts)
    window = first[place] + np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    low = np.maximum(window * layout.stride + 1, start[place])
    high = np.minimum(window * layout.stride + 1 + seq_len, stop[place])
    step = plan.first_steps(source, window, seq_len)
    kept = (high > low) & (step < plan.num_steps)
    place, begin = place[kept], start[place[kept]]
    copy = rows["copy"].to_numpy().astype(np.int64)[place]
    return _Reads(copy, low[kept] - begin, high[kept] - begin, step[kept])


def _later_copies(plan: "Plan", sources: Ids, group: Ids, reads: _Reads) -> DuplicateTargets:
    """Cut documents into cells in which every copy is read as a whole; keep all but the first."""
    wide = int(reads.high.max(initial=0)) + 1
    low, high = group * wide + reads.low, group * wide + reads.high
    borders = np.unique(np.concatenate([low, high]))
    first, last = np.searchsorted(borders, low), np.searchsorted(borders, high)
    counts = last - first
    part = np.repeat(np.arange(len(low)), counts)
    cell = first[part] + np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
    step, copy = reads.step[part], reads.copy[part]
    order = np.lexsort((step, copy, cell))  # every copy's first reading of a cell
    step, copy, cell = _first_of(order, (step, copy, cell), (1, 2))
    order = np.lexsort((copy, step, cell))  # of them all but the first copy
    step, copy, cell = step[order], copy[order], cell[order]
    later = np.flatnonzero(np.diff(cell, prepend=-1) == 0)
    size = borders[cell[later] + 1] - borders[cell[later]]
    return DuplicateTargets(sources[copy[later]], step[later], size, len(plan.sources))


def _first_of(order: Ids, columns: tuple[Ids, ...], keys: tuple[int, ...]) -> tuple[Ids, ...]:
    """Rows in `order`, only the first of each run of equal keys."""
    sorted_ = tuple(column[order] for column in columns)
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= np.diff(sorted_[key]) != 0
    return tuple(column[new] for column in sorted_)
