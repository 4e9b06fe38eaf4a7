"""The stages that find benchmark items in the text, after deduplication.

`benchmarks` makes the index of the items; `scan` finds what every file shares with them and counts
the items' words; `pipeline.decontamination_removal` judges. Duplicates are not looked at: they are
gone already.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from contamination.corpus import batch_of
from contamination.index import Index
from contamination.index_files import cached_index, open_index
from contamination.items import Benchmark
from contamination.scan import HIT, scan
from contamination.surprisal import Vocabulary, vocabulary_of, word_bits
from pipeline.documents import task_file
from pipeline.revisions import Revisions
from pipeline.task_report import tracked
from shards.atomic import atomic_write

BITS = "bits.npy"
BATCH_DOCUMENTS = 1000


class BuildIndex(PipelineStep):
    """The one task of the stage `benchmarks`."""

    type = "🔎 - AUDIT"
    name = "benchmarks"

    def __init__(self, benchmarks: Sequence[Benchmark], folder: Path) -> None:
        super().__init__()
        self.benchmarks, self.folder = benchmarks, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the index; yields nothing."""
        cached_index(list(self.benchmarks), self.folder)
        yield from ()


class ScanForItems(PipelineStep):
    """Documents that are no duplicates -> hits and word counts in `<rank>.npz`.

    Args:
        inputs: files of documents.
        duplicates: what the deduplication stage decided.
        revised: folders of the stages that revised the documents before.
        index: directory of the index.
        folder: where to write.
    """

    type = "🔎 - AUDIT"
    name = "scan"

    def __init__(
        self,
        inputs: list[Path],
        duplicates: Path,
        revised: list[Path],
        index: Path,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.duplicates, self.revised = inputs, duplicates, revised
        self.index, self.folder = index, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Scan file `rank`; yields nothing."""
        index, vocabulary = opened(self.index)
        known = pl.read_parquet(task_file(self.duplicates, rank), columns=["doc_id"])
        duplicates = frozenset(known["doc_id"])
        hits, first, present = [], 0, [np.empty(0, np.bool_)]
        counts, sampled = np.zeros(len(vocabulary.words), np.int64), 0
        for texts in _texts(self.inputs[rank], Revisions(self.revised, rank), duplicates):
            batch = batch_of(texts)
            found = scan(batch.data, batch.offsets, index, vocabulary)
            found.hits["document"] += first
            hits.append(found.hits)
            counts += found.counts
            sampled += found.sampled_words
            first += len(texts)
            present.append(np.array([bool(text) for text in texts]))
        with atomic_write(scan_file(self.folder, rank)) as file:
            all_hits = np.concatenate([np.empty(0, HIT), *hits])
            np.savez(
                file,
                hits=all_hits,
                counts=counts,
                sampled_words=np.int64(sampled),
                present=np.concatenate(present),
            )
        yield from ()


def _texts(path: Path, revisions: Revisions, left_out: frozenset[str]) -> Iterator[list[bytes]]:
    """Texts of a file in batches; empty for documents left out, so that rows keep their numbers."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(BATCH_DOCUMENTS, columns=["doc_id", "text"])
        stored = tracked(batches, file.metadata.num_rows, lambda batch: batch.num_rows)
        for batch in map(revisions.apply, stored):
            pairs = zip(batch["doc_id"].to_pylist(), batch["text"].to_pylist(), strict=True)
            yield [b"" if key in left_out else text.encode("utf-8") for key, text in pairs]


def scan_file(folder: Path, rank: int) -> Path:
    """Where task `rank` of the scan writes what it finds."""
    return task_file(folder, rank).with_suffix(".npz")


def weigh_words(num_tasks: int, index: Path, folder: Path) -> dict[str, Any]:
    """Sum up the words that all tasks counted, and write what the items' words are worth."""
    found, vocabulary = opened(index)
    counts, sampled = np.zeros(len(vocabulary.words), np.int64), 0
    for rank in range(num_tasks):
        with np.load(scan_file(folder, rank), allow_pickle=False) as stored:
            counts += stored["counts"]
            sampled += int(stored["sampled_words"])
    bits = word_bits(found.sequences, vocabulary, counts, sampled)
    with atomic_write(folder / BITS) as file:
        np.save(file, bits, allow_pickle=False)
    return {"sampled_words": sampled}


@lru_cache(1)
def opened(directory: Path) -> tuple[Index, Vocabulary]:
    """The index and its words; tasks that run in one process share them."""
    index = open_index(directory)
    return index, vocabulary_of(index.sequences)


def identity(benchmark: Benchmark) -> dict[str, str]:
    """Which benchmark this is, for keys and for the manifest."""
    names = ("name", "split", "origin", "digest")
    return {name: getattr(benchmark, name) for name in names}


def index_facts(benchmarks: Sequence[Benchmark], directory: Path) -> dict[str, Any]:
    """Which benchmarks are in the index."""
    return {"benchmarks": [identity(each) for each in benchmarks]}
