"""Exact and near duplicates across all sources: who is dropped, and for which kept document.

Exact duplicates have the same text. Near-duplicates are found as candidates (equal in at least one
MinHash band) and decided by the exact Jaccard similarity of their word n-grams. Documents are then
taken in an explicit order: held datasets first, source priority, longer first, a hash of the id. A
document is dropped when it is similar enough to one that is kept already, and that one is named. So
every drop can be checked against the document on record, and no chain of small changes carries a
document away. Decisions are keyed by document id, never by position.

The stages: `signatures` (keys of all documents, pipeline/signatures.py), `order` (the order and the
first of every text, dedup_order.py), `candidates` (dedup_candidates.py), `ngrams` and `similar`
(the pairs' similarity, dedup_similar.py), and here `dedup`, the decision.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numba import njit
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup_files import EXTRA_KEYS, NONE, Corpus, DedupInput, Ints, map_array, map_file
from pipeline.dedup_order import FIRST, PLACES, ROWS
from pipeline.dedup_report import KINDS, Report
from pipeline.dedup_similar import SIMILAR, similar_file
from pipeline.documents import task_file
from shards.atomic import atomic_write, write_json_atomic

DUPLICATES = "duplicates"
"""Folder with a Parquet file for every file of documents: those to drop, in reading order."""
FACTS = "facts.json"
SCHEMA = pa.schema(
    [
        ("doc_id", pa.large_string()),
        ("source", pa.string()),
        ("keeper", pa.large_string()),
        ("keeper_source", pa.string()),
        ("kind", pa.string()),  # one of `KINDS`
        ("jaccard", pa.float64()),
        ("characters", pa.int64()),
    ]
)
_BYTES_A_PAIR = 40
_ROWS = 1 << 16


class DecideDuplicates(PipelineStep):
    """The one task of the stage: similar pairs -> `duplicates/` and facts.json.

    Args:
        inputs: files of documents, the held ones last.
        priority: all sources in the order in which they keep the copy.
        config: for the record.
        held: what the manifest says about the held datasets.
        order: the order stage's folder.
        similar: the folder of similar pairs.
        similar_tasks: its number of tasks.
        folder: where to write.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "duplicates"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        priority: Sequence[str],
        config: DedupConfig,
        held: list[dict[str, Any]],
        order: Path,
        similar: Path,
        similar_tasks: int,
        folder: Path,
        memory: int,
    ) -> None:
        super().__init__()
        self.inputs, self.priority, self.config, self.held = inputs, priority, config, held
        self.order, self.similar, self.similar_tasks = order, similar, similar_tasks
        self.folder = folder
        self.pairs = max(1, memory // _BYTES_A_PAIR)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Decide about all documents; yields nothing."""
        corpus = Corpus(self.inputs, self.config.bands + EXTRA_KEYS)
        keeper = scratch(self.folder, len(corpus), np.uint32)
        jaccard = scratch(self.folder, len(corpus), np.float64)
        members = scratch(self.folder, len(corpus), np.uint32)
        keeper[:] = NONE
        for pairs in self._similar():
            decide(pairs["left"], pairs["right"], pairs["jaccard"], keeper, jaccard)
        report = Report(corpus, members)
        for number, item in enumerate(self.inputs):
            if not item.held:
                self._write(number, corpus, keeper, jaccard, report)
        write_json_atomic(self.folder / FACTS, report.facts(self.config, self.priority, self.held))
        yield from ()

    def _similar(self) -> Iterator[NDArray[np.void]]:
        for rank in range(self.similar_tasks):
            pairs = map_file(similar_file(self.similar, rank), SIMILAR)
            for start in range(0, len(pairs), self.pairs):
                yield pairs[start : start + self.pairs]

    def _write(
        self,
        number: int,
        corpus: Corpus,
        keeper: NDArray[np.uint32],
        jaccard: NDArray[np.float64],
        report: Report,
    ) -> None:
        """Write the documents of one file that are dropped."""
        first, places, rows = (map_array(self.order / name) for name in (FIRST, PLACES, ROWS))
        path = task_file(self.folder / DUPLICATES, number)
        base, stop = corpus.bases[number : number + 2].tolist()
        with atomic_write(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as out:
            for start in range(base, stop, _ROWS):
                here = np.arange(start, min(start + _ROWS, stop))
                of = first[here].astype(np.int64)  # a copy shares the fate of its text's first
                place = places[of]
                near = keeper[place] != NONE
                gone = near | (of != here)
                kept = np.where(near, rows[np.where(near, keeper[place], 0)], of)[gone]
                score = np.where(near, jaccard[place], 1.0)[gone]
                out.write_table(_table(here[gone], kept, near[gone], score, corpus, report))


def _table(
    rows: Ints,
    keepers: Ints,
    near: NDArray[np.bool_],
    jaccard: NDArray[np.float64],
    corpus: Corpus,
    report: Report,
) -> pa.Table:
    kinds = (near + 2 * (keepers >= corpus.own)).astype(np.int8)
    characters = corpus.gather("characters", rows)
    report.add(rows, keepers, kinds, characters)
    columns = [
        corpus.ids(rows),
        pa.array(report.sources(rows), pa.string()),
        corpus.ids(keepers),
        pa.array(report.sources(keepers), pa.string()),
        pa.array([KINDS[kind] for kind in kinds.tolist()], pa.string()),
        jaccard,
        characters,
    ]
    return pa.table(columns, schema=SCHEMA)


@njit(cache=True)
def decide(left, right, similarity, keeper, jaccard):  # type: ignore[no-untyped-def]
    """Take documents by place; drop those similar to a kept one.

    Args:
        left: uint32 [num_pairs], places of the earlier documents.
        right: uint32 [num_pairs], ascending: of the later ones; so all pairs of an earlier
            document come before those in which it is the earlier one.
        similarity: float64 [num_pairs].
        keeper: uint32 [num_documents], gets the place of the kept document each one repeats most;
            `NONE` for kept ones.
        jaccard: float64 [num_documents], gets that similarity.
    """
    for pair in range(len(left)):
        earlier, later = left[pair], right[pair]
        if keeper[earlier] == NONE and similarity[pair] > jaccard[later]:
            keeper[later], jaccard[later] = earlier, similarity[pair]


def scratch(folder: Path, size: int, dtype: Any) -> NDArray[Any]:
    """Zeros in an unnamed file, which is gone when the array is, or the process."""
    if not size:
        return np.zeros(0, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=(size,)))


def num_dropped(directory: Path) -> dict[str, Any]:
    """How many documents were dropped, by kind, as the finished stage says."""
    facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    return {kind: facts[kind] for kind in facts if kind.startswith("dropped_")}
