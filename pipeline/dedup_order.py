"""The order in which documents are taken, and the first of every text: exact duplicates.

Documents are taken source by source, the held ones first, then by priority; within a source the
longer ones first, those of equal length by a hash of their id. A document's number in this order
is its place. Everything is sorted part by part, see `pipeline.dedup_files`.
"""

from collections.abc import Sequence
from pathlib import Path

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
    content_kind,
    id_kind,
    new_map,
    order_kind,
)
from pipeline.errors import BuildError
from pipeline.unique_ids import refuse_ids

ROWS = "rows.npy"
"""uint32 [num_documents]: place -> row."""
PLACES = "places.npy"
"""uint32 [num_documents]: row -> place; `NONE` for a document whose text came before."""
FIRST = "first.npy"
"""uint32 [num_documents]: row -> row of the first document with the same text."""
_BYTES_A_DOCUMENT = 120


class OrderDocuments(PipelineStep):
    """The one task of the stage: places and first documents of all texts.

    Args:
        inputs: files of documents, the held ones last.
        priority: all sources in the order in which they keep the copy.
        config: number of bands.
        folder: where to write.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "order"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        priority: Sequence[str],
        config: DedupConfig,
        folder: Path,
        memory: int,
    ) -> None:
        super().__init__()
        self.inputs, self.priority, self.config = inputs, priority, config
        self.folder, self.part = folder, max(1, memory // _BYTES_A_DOCUMENT)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the three arrays; yields nothing."""
        corpus = Corpus(self.inputs, self.config.bands + EXTRA_KEYS)
        if len(corpus) >= NONE:
            raise BuildError(
                f"{len(corpus):,} documents, those of `dedup.against` too, and deduplication "
                f"numbers {NONE - 1:,}; build parts, such as crawls, as datasets of their own"
            )
        self._refuse_repeated_ids(corpus)
        with (
            new_map(self.folder / ROWS, len(corpus), np.uint32) as rows,
            new_map(self.folder / PLACES, len(corpus), np.uint32) as places,
            new_map(self.folder / FIRST, len(corpus), np.uint32) as first,
        ):
            self._order(corpus, rows, places)
            self._find_first(corpus, places, first)
        yield from ()

    def _order(self, corpus: Corpus, rows: NDArray[np.uint32], places: NDArray[np.uint32]) -> None:
        kind, place = order_kind(self.config), 0
        for files in self._files_in_order():
            for low, high in corpus.splitters(kind, self.part, files):
                here, keys = corpus.part(kind, low, high, files)
                taken = here[np.lexsort((here, corpus.gather("id_hash", here), keys))]
                rows[place : place + len(taken)] = taken
                places[taken] = np.arange(place, place + len(taken))
                place += len(taken)

    def _files_in_order(self) -> list[range]:
        """The files of the held documents, then those of every source."""
        sources = [None if item.held else item.source for item in self.inputs]
        order = [None, *self.priority]
        return [
            range(sources.index(source), sources.index(source) + sources.count(source))
            for source in order
            if source in sources
        ]

    def _find_first(
        self, corpus: Corpus, places: NDArray[np.uint32], first: NDArray[np.uint32]
    ) -> None:
        kind = content_kind(self.config)
        for low, high in corpus.splitters(kind, self.part):
            rows, keys = corpus.part(kind, low, high)
            halves = corpus.gather("hash_low", rows)
            order = np.lexsort((places[rows], halves, keys))
            rows, same = rows[order], equal_to_last(keys[order], halves[order])
            firsts = rows[np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))]
            first[rows] = firsts
            places[rows[same]] = NONE

    def _refuse_repeated_ids(self, corpus: Corpus) -> None:
        kind, own = id_kind(self.config), range(sum(not item.held for item in self.inputs))
        for low, high in corpus.splitters(kind, self.part, own):
            rows, keys = corpus.part(kind, low, high, own)
            order = np.lexsort((rows, keys))
            rows, same = rows[order], equal_to_last(keys[order])
            again = np.flatnonzero(same)
            _refuse_equal_ids(corpus, rows[again - 1], rows[again])


def equal_to_last(*keys: Keys) -> NDArray[np.bool_]:
    """Whether each element is the one before it, in all of the arrays: bool [size]."""
    out = np.zeros(len(keys[0]), np.bool_)
    out[1:] = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    return out


def _refuse_equal_ids(corpus: Corpus, left: Ints, right: Ints) -> None:
    """Raise BuildError where a document's id is that of another one: decisions are keyed by it."""
    ids, others = corpus.ids(left).to_pylist(), corpus.ids(right).to_pylist()
    sources = [corpus.inputs[number].source for number in corpus.file_of(right)]
    triples = zip(ids, others, sources, strict=True)
    refuse_ids([(doc_id, source) for doc_id, other, source in triples if doc_id == other])
