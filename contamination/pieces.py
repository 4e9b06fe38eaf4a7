"""Scan a corpus piece by piece: blocks in parallel, finished pieces kept on disk.

The kernels leave the interpreter lock, so threads share one index and need no start-up. A piece's
result is written whole under a name made of its content's key and the index key; a killed audit
goes on at the first piece that is missing.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.terminal import Advance, progress
from contamination.corpus import Block, Corpus, Piece
from contamination.index import Index
from contamination.scan import HIT, ScanResult, scan
from contamination.surprisal import Vocabulary
from shards.atomic import atomic_write


@dataclass(frozen=True)
class PieceResult:
    """What the scan of one piece found; hits as in `contamination.scan`."""

    hits: NDArray[np.void]
    counts: NDArray[np.int64]
    sampled_words: int
    words: int
    documents: int
    text_bytes: int


@dataclass(frozen=True)
class Scanner:
    """Everything a scan needs beside the corpus."""

    index: Index
    vocabulary: Vocabulary
    work: Path
    """Directory of the finished pieces."""
    workers: int

    def run(self, corpus: Corpus) -> int:
        """Scans the pieces that are not done yet; returns the bytes of text scanned now."""
        todo = [piece for piece in corpus.pieces if not self._path(piece).is_file()]
        if not todo:
            return 0
        total = sum(piece.size for piece in todo) * corpus.unit_scale
        scanned = 0
        with (
            progress("scanning", total, corpus.unit) as bar,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            for piece in todo:
                result = self._scan_piece(corpus, piece, pool, bar)
                self._save(piece, result)
                scanned += result.text_bytes
        return scanned

    def load(self, piece: Piece) -> PieceResult:
        """A finished piece."""
        with np.load(self._path(piece), allow_pickle=False) as stored:
            facts = [int(value) for value in stored["facts"]]
            return PieceResult(stored["hits"], stored["counts"], *facts)

    def _path(self, piece: Piece) -> Path:
        return self.work / f"{piece.key}-{self.index.key}.npz"

    def _save(self, piece: Piece, result: PieceResult) -> None:
        facts = [result.sampled_words, result.words, result.documents, result.text_bytes]
        with atomic_write(self._path(piece)) as file:
            np.savez(file, hits=result.hits, counts=result.counts, facts=np.array(facts))

    def _scan_piece(
        self, corpus: Corpus, piece: Piece, pool: ThreadPoolExecutor, bar: Advance
    ) -> PieceResult:
        parts = []
        for block, part in _in_order(corpus.blocks(piece), self._task(corpus), pool, self.workers):
            parts.append(part)
            bar.advance(block.size * corpus.unit_scale)
        hits = [part.hits for part in parts] or [np.empty(0, HIT)]
        counts = np.zeros(len(self.vocabulary.words), np.int64)
        return PieceResult(
            np.concatenate(hits),
            sum((part.counts for part in parts), counts),
            sum(part.sampled_words for part in parts),
            sum(part.words for part in parts),
            sum(part.documents for part in parts),
            sum(part.text_bytes for part in parts),
        )

    def _task(self, corpus: Corpus) -> "_Task":
        return _Task(corpus, self.index, self.vocabulary)


@dataclass(frozen=True)
class _Task:
    corpus: Corpus
    index: Index
    vocabulary: Vocabulary

    def __call__(self, block: Block) -> PieceResult:
        batch = self.corpus.decode(block)
        found: ScanResult = scan(batch.data, batch.offsets, self.index, self.vocabulary)
        found.hits["document"] += block.first_document
        documents, size = len(batch.offsets) - 1, int(batch.offsets[-1] - batch.offsets[0])
        return PieceResult(
            found.hits, found.counts, found.sampled_words, found.words, documents, size
        )


def _in_order(
    blocks: Iterator[Block], task: _Task, pool: ThreadPoolExecutor, workers: int
) -> Iterator[tuple[Block, PieceResult]]:
    """Results in the order of the blocks, with few blocks in memory at a time."""
    pending: deque[tuple[Block, Future[PieceResult]]] = deque()
    for block in blocks:
        pending.append((block, pool.submit(task, block)))
        if len(pending) > workers + 1:
            done, future = pending.popleft()
            yield done, future.result()
    while pending:
        done, future = pending.popleft()
        yield done, future.result()
