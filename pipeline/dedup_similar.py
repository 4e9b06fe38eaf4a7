"""Two stages: the n-gram sets of all candidates, and the exact Jaccard similarity of every pair."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup_candidates import needed_file, pair_runs
from pipeline.dedup_files import (
    EXTRA_KEYS,
    Corpus,
    DedupInput,
    Ints,
    Keys,
    map_array,
    map_file,
    ranges,
    slice_of,
)
from pipeline.dedup_order import ROWS
from pipeline.ngrams import NGrams, copy_rows, jaccard_of_pairs, ngrams_of, sorted_sets
from shards.atomic import atomic_write

SIMILAR = np.dtype([("left", "<u4"), ("right", "<u4"), ("jaccard", "<f8")])
"""A pair of places, the earlier one first, and its similarity."""
_BATCH_ROWS = 4096
_BYTES_A_PAIR = 80


class WriteNGramSets(PipelineStep):
    """Candidates of one file -> `<rank>.sets`: uint64 n-gram hashes, ascending in every document.

    `<rank>.ends` has int64 [documents + 1]: document d has [ends[d], ends[d + 1]); nothing, where
    it is no candidate.

    Args:
        inputs: files of documents, the held ones last.
        config: words in an n-gram.
        candidates: the candidates stage's folder.
        candidate_tasks: its number of tasks.
        folder: where to write.
    """

    type = "🫂 - DEDUP"
    name = "n-gram sets"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        config: DedupConfig,
        candidates: Path,
        candidate_tasks: int,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.config, self.folder = inputs, config, folder
        self.candidates, self.candidate_tasks = candidates, candidate_tasks

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the sets of the documents in input file `rank`; yields nothing."""
        needed, row, end = self._needed(rank), 0, 0
        with (
            atomic_write(sets_file(self.folder, rank)) as out,
            atomic_write(ends_file(self.folder, rank)) as ends,
        ):
            ends.write(np.zeros(1, "<i8").data)
            for texts in text_batches(self.inputs[rank].documents):
                here = needed[row : row + len(texts)]
                sizes = np.zeros(len(texts), np.int64)
                if here.any():
                    chosen = texts.filter(pa.array(here))
                    sets = sorted_sets(ngrams_of(chosen, self.config.ngram_words))
                    out.write(sets.hash.data)
                    sizes[here] = np.diff(sets.offsets)
                ends.write((np.cumsum(sizes) + end).data)
                row, end = row + len(texts), end + int(sizes.sum())
        yield from ()

    def _needed(self, rank: int) -> NDArray[np.bool_]:
        corpus = Corpus(self.inputs, self.config.bands + EXTRA_KEYS)
        start, stop = corpus.bases[rank : rank + 2]
        out = np.zeros(stop - start, np.bool_)
        for task in range(self.candidate_tasks):
            out |= map_array(needed_file(self.candidates, task))[start:stop]
        return out


class ComparePairs(PipelineStep):
    """Candidates -> `<task>.similar`, `SIMILAR` records in the order of (later, earlier) place.

    Only pairs at or above the threshold are written. The tasks cut the range of pairs, so that
    their files, one after the other, are in order too.

    Args:
        inputs: files of documents, the held ones last.
        config: the threshold.
        order: the order stage's folder.
        candidates: the candidates stage's folder.
        candidate_tasks: its number of tasks.
        sets: the folder of n-gram sets.
        folder: where to write.
        tasks: how many there are.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "similarities"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        config: DedupConfig,
        order: Path,
        candidates: Path,
        candidate_tasks: int,
        sets: Path,
        folder: Path,
        tasks: int,
        memory: int,
    ) -> None:
        super().__init__()
        self.inputs, self.config, self.order, self.sets = inputs, config, order, sets
        self.candidates, self.candidate_tasks = candidates, candidate_tasks
        self.folder, self.tasks = folder, tasks
        self.pairs, self.grams = max(1, memory // 2 // _BYTES_A_PAIR), max(1, memory // 2 // 16)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Compare the pairs of task `rank`; yields nothing."""
        corpus = Corpus(self.inputs, self.config.bands + EXTRA_KEYS)
        sets = _Sets(corpus, map_array(self.order / ROWS), self.sets)
        with atomic_write(similar_file(self.folder, rank)) as out:
            for pairs in self._pairs(rank):
                size = np.uint64(len(corpus))
                left, right = ((pairs % size), (pairs // size))
                self._compare(sets, left.astype(np.int64), right.astype(np.int64), out)
        yield from ()

    def _pairs(self, rank: int) -> Iterator[Keys]:
        """The task's pairs, each once, in ascending order; part by part."""
        runs = pair_runs(self.candidates, self.candidate_tasks)
        parts = -(-sum(map(len, runs)) // (self.tasks * self.pairs))
        for low, high in ranges(runs, self.tasks * parts)[rank * parts : (rank + 1) * parts]:
            yield np.unique(np.concatenate([run[slice(*slice_of(run, low, high))] for run in runs]))

    def _compare(self, sets: "_Sets", left: Ints, right: Ints, out: IO[bytes]) -> None:
        """Write the similar ones of the pairs; as many at a time as their sets leave room for."""
        smaller, larger = np.sort([sets.sizes(left), sets.sizes(right)], axis=0)
        possible = smaller >= self.config.threshold * larger  # |A & B| / |A | B| is no more
        left, right = left[possible], right[possible]
        ends = np.cumsum((smaller + larger)[possible])
        start = 0
        while start < len(left):
            room = self.grams + (ends[start - 1] if start else 0)
            stop = max(start + 1, int(np.searchsorted(ends, room, "right")))
            here = slice(start, stop)
            jaccard = sets.similarity(left[here], right[here])
            similar = np.empty(stop - start, SIMILAR)
            similar["left"], similar["right"], similar["jaccard"] = left[here], right[here], jaccard
            out.write(similar[jaccard >= self.config.threshold].data)
            start = stop


class _Sets:
    """The n-gram sets of all files, by place."""

    def __init__(self, corpus: Corpus, rows: NDArray[np.uint32], folder: Path) -> None:
        self._corpus, self._rows = corpus, rows
        files = range(len(corpus.inputs))
        self._sets = [map_file(sets_file(folder, n), np.dtype("<u8")) for n in files]
        self._ends = [map_file(ends_file(folder, n), np.dtype("<i8")) for n in files]

    def sizes(self, places: Ints) -> Ints:
        """N-grams of the documents at these places."""
        out = np.zeros(len(places), np.int64)
        for number, here, local in self._by_file(places):
            out[here] = self._ends[number][local + 1] - self._ends[number][local]
        return out

    def similarity(self, left: Ints, right: Ints) -> NDArray[np.float64]:
        """Exact Jaccard similarity of pairs of places."""
        places = np.unique(np.concatenate([left, right]))
        sets = self._gather(places)
        sides = (np.searchsorted(places, side) for side in (left, right))
        out: NDArray[np.float64] = jaccard_of_pairs(sets.hash, sets.offsets, *sides)
        return out

    def _gather(self, places: Ints) -> NGrams:
        offsets = np.zeros(len(places) + 1, np.int64)
        np.cumsum(self.sizes(places), out=offsets[1:])
        out = np.empty(int(offsets[-1]), np.uint64)
        for number, here, local in self._by_file(places):
            copy_rows(self._sets[number], self._ends[number], local, out, offsets, here)
        return NGrams(out, offsets)

    def _by_file(self, places: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        return self._corpus.by_file(self._rows[places].astype(np.int64))


def text_batches(path: Path) -> Iterator[pa.LargeStringArray]:
    """The texts of a documents file, row group by row group: these are cut by their size."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=["text"]):
                yield batch.column("text")


def sets_file(folder: Path, rank: int) -> Path:
    """Where the n-gram sets of file `rank` are."""
    return folder / f"{rank:05d}.sets"


def ends_file(folder: Path, rank: int) -> Path:
    """Where the ends of the sets of file `rank` are."""
    return folder / f"{rank:05d}.ends"


def similar_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes the similar pairs."""
    return folder / f"{rank:05d}.similar"
