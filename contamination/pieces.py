"""Scan a corpus piece by piece: blocks in parallel, results kept on disk.

The kernels leave the interpreter lock, so threads share one index and need no start-up. A piece's
result is written whole (`contamination.stored`); a killed audit goes on at the first piece that is
missing, and a piece that was scanned before is scanned for the new benchmarks only.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from configs.terminal import Advance, counted, progress
from contamination.corpus import Block, Corpus, Piece
from contamination.index import Index
from contamination.index_files import cached_index
from contamination.items import Benchmark
from contamination.scan import HIT, scan, scan_tokens
from contamination.stored import PieceResult, Store
from contamination.surprisal import Vocabulary, vocabulary_of

Result = TypeVar("Result")


class Scanned(NamedTuple):
    """What a call scanned, and what it took from earlier ones."""

    text_bytes: int
    pieces: int
    """Scanned for at least one benchmark."""
    pieces_reused: int
    """Known for all benchmarks."""
    results_reused: int
    """(Piece, benchmark) pairs that were known."""
    results: int
    """All such pairs."""

    def sentence(self) -> str:
        """What was scanned and what was not, for people."""
        total = self.pieces + self.pieces_reused
        if not self.results_reused:
            return f"scanned all of {counted(total, 'piece')}, {self.text_bytes / 1e6:,.1f} MB"
        return (
            f"scanned {self.pieces:,} of {counted(total, 'piece')} "
            f"({self.text_bytes / 1e6:,.1f} MB); {self.results_reused:,} of "
            f"{self.results:,} results (piece and benchmark) are those of earlier audits"
        )


@dataclass(frozen=True)
class Scanner:
    """Everything a scan needs beside the corpus."""

    index: Index
    vocabulary: Vocabulary
    benchmarks: Sequence[Benchmark]
    """Those of the index."""
    store: Store
    cache: Path
    """Directory of indexes, for those of some of the benchmarks."""
    workers: int

    def run(self, corpus: Corpus) -> Scanned:
        """Scans every piece for the benchmarks that it was not scanned for yet."""
        todo = [(piece, self.store.missing(piece, self.benchmarks)) for piece in corpus.pieces]
        pairs = len(corpus.pieces) * len(self.benchmarks)
        reused = pairs - sum(len(missing) for _, missing in todo)
        todo = [(piece, missing) for piece, missing in todo if missing]
        total = sum(piece.size for piece, _ in todo) * corpus.unit_scale
        text_bytes = 0
        if todo:
            with (
                progress("scanning", total, corpus.unit) as bar,
                ThreadPoolExecutor(self.workers) as pool,
            ):
                for piece, missing in todo:
                    part = self._for(missing)
                    results = in_order(corpus, piece, part.task(corpus), pool, self.workers, bar)
                    result = part.joined(list(results))
                    self.store.save(piece, result, part.index, part.vocabulary, missing)
                    text_bytes += result.text_bytes
        return Scanned(text_bytes, len(todo), len(corpus.pieces) - len(todo), reused, pairs)

    def load(self, piece: Piece) -> PieceResult:
        """A finished piece."""
        return self.store.load(piece, self.index, self.vocabulary, self.benchmarks)

    def _for(self, benchmarks: list[Benchmark]) -> "_Part":
        if len(benchmarks) == len(self.benchmarks):
            return _Part(self.index, self.vocabulary)
        index = cached_index(benchmarks, self.cache)
        return _Part(index, vocabulary_of(index.sequences))


@dataclass(frozen=True)
class _Part:
    """A scan for some of the benchmarks."""

    index: Index
    vocabulary: Vocabulary

    def task(self, corpus: Corpus) -> Callable[[Block], PieceResult]:
        return lambda block: self._scan(corpus, block)

    def _scan(self, corpus: Corpus, block: Block) -> PieceResult:
        packed = corpus.packed(block)
        if packed is None:
            batch = corpus.decode(block)
            found = scan(batch.data, batch.offsets, self.index, self.vocabulary)
            documents, size = len(batch.offsets) - 1, int(batch.offsets[-1] - batch.offsets[0])
        else:
            found = scan_tokens(packed, self.index, self.vocabulary)
            documents, size = len(packed.starts), int(packed.sizes.sum())
        found.hits["document"] += block.first_document
        return PieceResult(
            found.hits, found.counts, found.sampled_words, found.words, documents, size
        )

    def joined(self, parts: Sequence[PieceResult]) -> PieceResult:
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


def in_order(
    corpus: Corpus,
    piece: Piece,
    task: Callable[[Block], Result],
    pool: ThreadPoolExecutor,
    workers: int,
    bar: Advance,
) -> Iterator[Result]:
    """Results in the order of the piece's blocks, with few blocks in memory at a time."""
    pending: deque[tuple[Block, Future[Result]]] = deque()
    for block in corpus.blocks(piece):
        pending.append((block, pool.submit(task, block)))
        if len(pending) > workers + 1:
            yield _finished(corpus, pending, bar)
    while pending:
        yield _finished(corpus, pending, bar)


def _finished(
    corpus: Corpus, pending: "deque[tuple[Block, Future[Result]]]", bar: Advance
) -> Result:
    block, future = pending.popleft()
    result = future.result()
    bar.advance(block.size * corpus.unit_scale)
    return result
