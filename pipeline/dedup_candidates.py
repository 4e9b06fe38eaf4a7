"""Candidates: pairs of documents that agree in a MinHash band. A task looks at some of the bands.

Within a run of equal bands, each document meets the first of the run and its next 16 neighbours
in the order in which documents are taken; in a run of thousands (boilerplate) that finds the
keeper without a million pairs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup_files import (
    EXTRA_KEYS,
    NONE,
    Corpus,
    DedupInput,
    Ints,
    Keys,
    map_array,
    map_file,
    new_map,
)
from pipeline.dedup_order import PLACES, ROWS
from shards.atomic import atomic_write

_NEIGHBOURS = 16
_BYTES_A_DOCUMENT = 160
_BYTES_A_PAIR = 40


class FindCandidates(PipelineStep):
    """Writes `<task>.pairs`, runs of pairs in ascending order, and `<task>.needed.npy`.

    A pair is the uint64 `later * num_documents + earlier`, both as places; `<task>.sizes.npy` has
    the pairs of every run. `needed`, bool [num_documents], says of every row whether it is in a
    pair.

    Args:
        inputs: files of documents, the held ones last.
        config: number of bands.
        order: the order stage's folder.
        folder: where to write.
        tasks: bands are dealt out to so many.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "candidates"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        config: DedupConfig,
        order: Path,
        folder: Path,
        tasks: int,
        memory: int,
    ) -> None:
        super().__init__()
        self.inputs, self.config, self.order, self.folder = inputs, config, order, folder
        self.tasks = tasks
        self.part = max(1, memory // 2 // _BYTES_A_DOCUMENT)
        self.pending = max(1, memory // 2 // _BYTES_A_PAIR)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Look at the bands of task `rank`; yields nothing."""
        corpus = Corpus(self.inputs, self.config.bands + EXTRA_KEYS)
        path = pairs_file(self.folder, rank)
        with (
            atomic_write(path) as out,
            new_map(needed_file(self.folder, rank), len(corpus), np.bool_) as needed,
            atomic_write(sizes_file(path)) as sizes,
        ):
            np.save(sizes, list(self._write(self._codes(corpus, rank), out, needed)))
        yield from ()

    def _codes(self, corpus: Corpus, rank: int) -> Iterator[Keys]:
        """The pairs of all bands of the task; a pair may come several times."""
        places, held = map_array(self.order / PLACES), len(corpus) - corpus.own
        for band in range(rank, self.config.bands, self.tasks):
            for low, high in corpus.splitters(band, self.part, least=1):
                rows, keys = corpus.part(band, low, high)
                place = places[rows]
                first = place != NONE
                for left, right in run_pairs(keys[first], place[first].astype(np.int64)):
                    free = right >= held  # two held documents need not be compared
                    yield (right[free] * len(corpus) + left[free]).astype(np.uint64)

    def _write(
        self, codes: Iterator[Keys], out: IO[bytes], needed: NDArray[np.bool_]
    ) -> Iterator[int]:
        rows, size = map_array(self.order / ROWS), np.uint64(max(len(needed), 1))
        pending: list[Keys] = []
        for some in codes:
            pending.append(some)
            if sum(map(len, pending)) > self.pending:
                yield _write_run(pending, out, needed, rows, size)
                pending = []
        if pending:
            yield _write_run(pending, out, needed, rows, size)


def _write_run(
    codes: list[Keys],
    out: IO[bytes],
    needed: NDArray[np.bool_],
    rows: NDArray[np.uint32],
    size: np.uint64,
) -> int:
    pairs = np.unique(np.concatenate(codes))
    out.write(pairs.data)
    needed[rows[pairs // size]] = True
    needed[rows[pairs % size]] = True
    return len(pairs)


def run_pairs(keys: Keys, places: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (earlier, later) of places within runs of equal keys."""
    order = np.lexsort((places, keys))
    keys, places = keys[order], places[order]
    if not len(keys):
        return
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    firsts = np.repeat(places[starts], np.diff(np.r_[starts, len(keys)]))
    later = firsts != places
    yield firsts[later], places[later]
    for distance in range(1, min(_NEIGHBOURS, len(keys) - 1) + 1):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(same):
            return
        yield places[same], places[same + distance]


def pairs_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes its pairs."""
    return folder / f"{rank:05d}.pairs"


def sizes_file(path: Path) -> Path:
    """Where the sizes of the runs of a file are."""
    return path.with_suffix(".sizes.npy")


def needed_file(folder: Path, rank: int) -> Path:
    """Where task `rank` says which rows are in a pair."""
    return folder / f"{rank:05d}.needed.npy"


def pair_runs(folder: Path, tasks: int) -> list[Keys]:
    """The runs of pairs of all tasks, mapped."""
    runs: list[Keys] = []
    for rank in range(tasks):
        path = pairs_file(folder, rank)
        ends = np.cumsum(np.load(sizes_file(path)).astype(np.int64))
        runs += np.split(map_file(path, np.dtype("<u8")), ends)[:-1]
    return runs
