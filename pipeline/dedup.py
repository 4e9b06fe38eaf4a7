"""Exact and near duplicates across all sources: who is dropped, and for which kept document.

Exact duplicates have the same text. Near-duplicates are found as candidates (equal in at least one
MinHash band) and decided by the exact Jaccard similarity of their word n-grams. Documents are then
taken in an explicit order: source priority, longer first, document id. A document is dropped when
it is similar enough to one that is kept already, and that one is named. So every drop can be
checked against the document on record, and no chain of small changes carries a document away.
Decisions are keyed by document id, never by position.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.build import DedupConfig
from pipeline.errors import BuildError
from pipeline.ngrams import jaccard_of_pairs, ngrams_of, sorted_sets
from shards.atomic import atomic_write, write_json_atomic

DUPLICATES = "duplicates.parquet"
FACTS = "facts.json"
_NEIGHBOURS = 16
_PART_DOCUMENTS = 16_000_000
_PENDING_PAIRS = 32_000_000
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "doc_id": pl.String,
    "source": pl.String,
    "keeper": pl.String,
    "keeper_source": pl.String,
    "kind": pl.Enum(["exact", "near"]),
    "jaccard": pl.Float64,
    "characters": pl.Int64,
}

Ints = NDArray[np.int64]


class DedupInput(NamedTuple):
    """One file of documents and its signatures, in reading order."""

    source: str
    documents: Path
    signatures: Path


class FindDuplicates(PipelineStep):
    """The one task of the stage: all signatures -> duplicates.parquet and facts.json."""

    type = "🫂 - DEDUP"
    name = "duplicates"

    def __init__(
        self, inputs: list[DedupInput], priority: list[str], config: DedupConfig, folder: Path
    ) -> None:
        super().__init__()
        self.inputs, self.priority, self.config, self.folder = inputs, priority, config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Decide about all documents; yields nothing."""
        documents = _read_documents(self.inputs, self.priority)
        duplicates = find_duplicates(documents, self.inputs, self.config, self.folder)
        with atomic_write(self.folder / DUPLICATES) as file:
            duplicates.write_parquet(file, compression="zstd")
        facts = describe(duplicates, documents, self.config, self.priority)
        write_json_atomic(self.folder / FACTS, facts)
        yield from ()


def _read_documents(inputs: list[DedupInput], priority: list[str]) -> pl.DataFrame:
    """All documents with their `place` in the order in which they are taken (0 first)."""
    columns, kind = ["doc_id", "characters", "content_hash"], pl.Enum(priority)
    frames = [
        pl.read_parquet(item.documents, columns=columns).with_columns(
            source=pl.lit(item.source, kind)
        )
        for item in inputs
    ]
    documents = pl.concat(frames).with_row_index("row")
    refuse_repeated_ids(documents)
    order = pl.col("source").replace_strict(priority, range(len(priority)), return_dtype=pl.Int64)
    taken = documents.sort(order, -pl.col("characters"), "doc_id").with_row_index("place")
    return taken.sort("row")


def refuse_repeated_ids(documents: pl.DataFrame) -> None:
    """Raise BuildError where a document id occurs twice: decisions are keyed by it."""
    repeated = documents.filter(pl.col("doc_id").is_duplicated()).head(5)
    if len(repeated):
        pairs = zip(repeated["doc_id"], repeated["source"], strict=True)
        shown = ", ".join(f"'{doc_id}' ({source})" for doc_id, source in pairs)
        raise BuildError(
            f"document ids must be unique in a dataset; these occur again: {shown}. "
            "Name another `id` column, leave `id` out, or set `id_prefix` of a source"
        )


def find_duplicates(
    documents: pl.DataFrame, inputs: list[DedupInput], config: DedupConfig, scratch: Path
) -> pl.DataFrame:
    """The documents to drop, in reading order, each with the kept one it repeats.

    Args:
        documents: what `_read_documents` gives.
        inputs: the files.
        config: threshold and n-grams.
        scratch: folder with room for the n-gram sets of all candidates.
    """
    by_place = documents.sort("place")
    rows = by_place["row"].to_numpy().astype(np.int64)
    first = by_place.select(pl.col("place").min().over("content_hash")).to_series().to_numpy()
    first = first.astype(np.int64)  # [num_documents], place of the first with the same text
    unique = np.flatnonzero(first == np.arange(len(first)))
    bands = [np.load(item.signatures, mmap_mode="r") for item in inputs]
    place_of_row = np.empty_like(rows)
    place_of_row[rows] = np.arange(len(rows))
    compared = np.zeros(len(rows), np.bool_)
    compared[rows[unique]] = True
    left, right = candidates(bands, place_of_row, compared)
    similarity = _similarities(left, right, rows, inputs, config.ngram_words, scratch)
    keeper, jaccard = _decide(len(first), left, right, similarity, config.threshold)
    near_place = first  # an exact copy shares the fate of the text's first document
    dropped = (first != np.arange(len(first))) | (keeper >= 0)
    final = np.where(keeper[near_place] >= 0, keeper[near_place], first)
    frame = by_place.with_columns(
        keeper=by_place["doc_id"].gather(final),
        keeper_source=by_place["source"].gather(final),
        kind=pl.Series(np.where(keeper[near_place] >= 0, "near", "exact")),
        jaccard=pl.Series(np.where(keeper[near_place] >= 0, jaccard[near_place], 1.0)),
    )
    frame = frame.filter(pl.Series(dropped)).sort("row")
    return frame.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())


def candidates(
    bands: list[NDArray[np.uint64]],
    place_of_row: Ints,
    compared: NDArray[np.bool_],
    part_documents: int = _PART_DOCUMENTS,
) -> tuple[Ints, Ints]:
    """Pairs of places (earlier, later) that agree in at least one band.

    Within a run of equal bands, each document meets the first of the run and its next 16
    neighbours; in a run of thousands (boilerplate) that finds the keeper without a million pairs.

    Args:
        bands: uint64 [num_bands, num_documents] of every file, mapped into memory.
        place_of_row: int64 [num_rows], of all files together.
        compared: bool [num_rows], documents to compare.
        part_documents: about as many are sorted at a time, cut by ranges of the hashes.
    """
    size = np.int64(len(place_of_row))
    parts = -(-int(size) // part_documents)
    pairs, pending = np.zeros(0, np.int64), [np.zeros(0, np.int64)]
    for band in range(len(bands[0])):
        for part in range(parts):
            live, values = _part([file[band] for file in bands], compared, part, parts)
            pending += _run_codes(values, place_of_row[live], size)
            if sum(map(len, pending)) > _PENDING_PAIRS:
                pairs, pending = np.unique(np.concatenate([pairs, *pending])), []
    pairs = np.unique(np.concatenate([pairs, *pending]))
    return pairs // size, pairs % size


def _part(
    files: list[NDArray[np.uint64]], compared: NDArray[np.bool_], part: int, parts: int
) -> tuple[Ints, NDArray[np.uint64]]:
    """Rows, and their hashes in one band, of the part's range of hashes; 0 means no words."""
    width = 2**64 // parts + 1 if parts > 1 else 2**64 - 1
    low, high = max(1, part * width), min((part + 1) * width, 2**64) - (parts > 1)
    rows, hashes, base = [], [], 0
    for values in files:
        chosen = (values >= np.uint64(low)) & (values <= np.uint64(high))
        here = np.flatnonzero(chosen & compared[base : base + len(values)])
        rows.append(here + base)
        hashes.append(values[here])
        base += len(values)
    return np.concatenate(rows), np.concatenate(hashes)


def _run_codes(values: NDArray[np.uint64], places: Ints, size: np.int64) -> list[Ints]:
    """Codes of the pairs within runs of equal values."""
    order = np.lexsort((places, values))
    values, ordered = values[order], places[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else order
    run_first = np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    codes = [_pair_codes(ordered[run_first], ordered, size)]
    for distance in range(1, min(_NEIGHBOURS, len(values) - 1) + 1):
        same = np.flatnonzero(values[distance:] == values[:-distance])
        if not len(same):
            break
        codes.append(_pair_codes(ordered[same], ordered[same + distance], size))
    return codes


def _pair_codes(left: Ints, right: Ints, size: np.int64) -> Ints:
    distinct = left < right
    return left[distinct] * size + right[distinct]


def _similarities(
    left: Ints, right: Ints, rows: Ints, inputs: list[DedupInput], n: int, scratch: Path
) -> NDArray[np.float64]:
    """Exact Jaccard similarities of pairs of places; only their documents are read again.

    Their n-gram sets go to an unnamed file in `scratch` and are mapped from there, so that the
    system's cache and not this process holds as many of them as there is room for.
    """
    needed = np.unique(np.concatenate([rows[left], rows[right]]))
    with tempfile.TemporaryFile(dir=scratch) as file:
        offsets = np.zeros(len(needed) + 1, np.int64)
        np.cumsum(_write_sets(needed, inputs, n, file), out=offsets[1:])
        file.flush()
        empty = np.zeros(0, np.uint64)
        sets = np.asarray(np.memmap(file, np.uint64, "r+")) if offsets[-1] else empty
        left_set, right_set = (np.searchsorted(needed, rows[side]) for side in (left, right))
        out: NDArray[np.float64] = jaccard_of_pairs(sets, offsets, left_set, right_set)
    return out


def _write_sets(needed: Ints, inputs: list[DedupInput], n: int, out: IO[bytes]) -> Ints:
    """Write the n-gram sets of the documents in the given rows (ascending); returns their sizes."""
    sizes = [np.zeros(0, np.int64)]
    base = 0
    for item in inputs:
        with pq.ParquetFile(item.documents) as file:
            for batch in file.iter_batches(batch_size=4096, columns=["text"]):
                stop = base + batch.num_rows
                here = needed[np.searchsorted(needed, base) : np.searchsorted(needed, stop)] - base
                if len(here):
                    sets = sorted_sets(ngrams_of(batch.column("text").take(pa.array(here)), n))
                    out.write(sets.hash.data)
                    sizes.append(np.diff(sets.offsets))
                base = stop
    return np.concatenate(sizes)


def _decide(
    size: int, left: Ints, right: Ints, similarity: NDArray[np.float64], threshold: float
) -> tuple[Ints, NDArray[np.float64]]:
    """Take documents by place; drop those similar to a kept one.

    Returns:
        int64 [size], the place of the kept document each one repeats most, -1 for kept ones; and
        float64 [size], that similarity.
    """
    keeper, jaccard = np.full(size, -1, np.int64), np.zeros(size, np.float64)
    similar = np.flatnonzero(similarity >= threshold)
    order = similar[np.lexsort((left[similar], right[similar]))]
    for pair in order:  # all pairs of an earlier document come before those of a later one
        earlier, later = left[pair], right[pair]
        if keeper[earlier] < 0 and similarity[pair] > jaccard[later]:
            keeper[later], jaccard[later] = earlier, similarity[pair]
    return keeper, jaccard


def describe(
    duplicates: pl.DataFrame, documents: pl.DataFrame, config: DedupConfig, priority: list[str]
) -> dict[str, Any]:
    """The facts for the manifest: method, clusters by size, overlap between sources."""
    clusters = duplicates.group_by("keeper").len()["len"].to_list()
    sizes = Counter(members + 1 for members in clusters)
    kinds = Counter(duplicates["kind"].to_list())
    return {
        "method": "word n-gram MinHash bands for candidates, exact Jaccard for the decision",
        **config.model_dump(mode="json"),
        "priority": priority,
        "documents_in": len(documents),
        "dropped_exact": kinds["exact"],
        "dropped_near": kinds["near"],
        "clusters": len(clusters),
        "cluster_sizes": {str(size): sizes[size] for size in sorted(sizes)},
        "overlap": _overlap(duplicates),
    }


def _overlap(duplicates: pl.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Dropped documents and characters, by their source and the source of the kept copy."""
    grouped = duplicates.group_by("source", "keeper_source").agg(
        pl.len().alias("documents"), pl.col("characters").sum()
    )
    out: dict[str, dict[str, dict[str, int]]] = {}
    for source, keeper_source, count, characters in grouped.sort(pl.all()).iter_rows():
        cell = {"documents": count, "characters": characters}
        out.setdefault(source, {})[keeper_source] = cell
    return out
