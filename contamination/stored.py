"""Results of scanned pieces, kept by content: nothing is scanned twice for the same benchmark.

`CACHE/<recipe>/<piece key>/<index key>.npz` holds what one scan of one piece found, for the
benchmarks of its index. Hits are kept with the hash of their five words, so that the results of
several scans, each for some of the benchmarks, add up to the result of one scan for all of them:
same hits in the same order.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from contamination.corpus import Piece
from contamination.index import INDEX_VERSION, RUN_WORDS, Index, index_key
from contamination.items import Benchmark
from contamination.scan import SAMPLE_ONE_IN
from contamination.surprisal import Vocabulary
from contamination.words import RECIPE_HASH
from shards.atomic import atomic_write
from shards.hashing import blake3_json


@dataclass(frozen=True)
class PieceResult:
    """What the scan of one piece found; hits as in `contamination.scan`."""

    hits: NDArray[np.void]
    counts: NDArray[np.int64]
    sampled_words: int
    words: int
    documents: int
    text_bytes: int


class _Stored(NamedTuple):
    benchmarks: frozenset[str]
    hits: NDArray[np.void]
    hashes: NDArray[np.uint64]
    """Of each hit."""
    words: NDArray[np.uint64]
    """Of the items, that were counted."""
    counts: NDArray[np.int64]
    facts: list[int]


def scan_key() -> str:
    """Identity of the method: results of the same key can be put together."""
    return blake3_json([INDEX_VERSION, RECIPE_HASH, RUN_WORDS, int(SAMPLE_ONE_IN)])[:16]


@dataclass(frozen=True)
class Store:
    """The results below a folder."""

    folder: Path

    def missing(self, piece: Piece, benchmarks: Sequence[Benchmark]) -> list[Benchmark]:
        """The benchmarks that the piece was not scanned for."""
        if is_sound(self._path(piece, index_key(list(benchmarks)))):
            return []
        have = frozenset[str]().union(*(known for _, known in self._known(piece)))
        return [benchmark for benchmark in benchmarks if benchmark.digest not in have]

    def save(
        self,
        piece: Piece,
        result: PieceResult,
        index: Index,
        vocabulary: Vocabulary,
        benchmarks: Sequence[Benchmark],
    ) -> None:
        """Keeps the result of a scan with an index of these benchmarks."""
        facts = [result.sampled_words, result.words, result.documents, result.text_bytes]
        counted = np.flatnonzero(result.counts)
        path = self._path(piece, index.key)
        with atomic_write(path) as file:
            np.savez(
                file,
                hits=result.hits,
                hashes=index.hashes_of(result.hits["seed"]),
                words=vocabulary.words[counted],
                counts=result.counts[counted],
                facts=np.array(facts),
                benchmarks=np.array([benchmark.digest for benchmark in benchmarks]),
            )

    def load(
        self,
        piece: Piece,
        index: Index,
        vocabulary: Vocabulary,
        benchmarks: Sequence[Benchmark],
    ) -> PieceResult:
        """What one scan for all these benchmarks finds, from the scans that were made."""
        wanted = {benchmark.digest for benchmark in benchmarks}
        path = self._path(piece, index.key)
        paths = [path] if path.is_file() else [p for p, has in self._known(piece) if has & wanted]
        stored = [_read(each) for each in paths]
        counts = np.zeros(len(vocabulary.words), np.int64)
        for part in stored:
            at, known = _positions(vocabulary.words, part.words)
            counts[at[known]] = part.counts[known]
        return PieceResult(_merged(stored, index), counts, *stored[0].facts)

    def _path(self, piece: Piece, key: str) -> Path:
        return self.folder / scan_key() / piece.key / f"{key}.npz"

    def _known(self, piece: Piece) -> list[tuple[Path, frozenset[str]]]:
        folder = self.folder / scan_key() / piece.key
        return [
            (path, _benchmarks_of(path)) for path in sorted(folder.glob("*.npz")) if is_sound(path)
        ]


def is_sound(path: Path) -> bool:
    """Whether a stored result is there, undamaged; a damaged one is taken away.

    The archive has a checksum of every array, which is compared when the array is read.
    """
    if not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as stored:
            return all(stored[name] is not None for name in stored.files)
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, BadZipFile, zlib.error):
        path.unlink(missing_ok=True)
        return False


def _benchmarks_of(path: Path) -> frozenset[str]:
    with np.load(path, allow_pickle=False) as stored:
        return frozenset(stored["benchmarks"].tolist())


def _read(path: Path) -> _Stored:
    with np.load(path, allow_pickle=False) as stored:
        return _Stored(
            frozenset(stored["benchmarks"].tolist()),
            stored["hits"],
            stored["hashes"],
            stored["words"],
            stored["counts"],
            [int(value) for value in stored["facts"]],
        )


def _positions(
    ordered: NDArray[np.uint64], values: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each value stands in a sorted array, and whether it does."""
    at = np.minimum(np.searchsorted(ordered, values), max(0, len(ordered) - 1))
    known = ordered[at] == values if len(ordered) else np.zeros(len(values), np.bool_)
    return at, known


def _merged(stored: Sequence[_Stored], index: Index) -> NDArray[np.void]:
    """Hits with seeds of the index, by document and word, each once."""
    hits = np.concatenate([part.hits for part in stored])
    hits["seed"] = index.numbers_of(np.concatenate([part.hashes for part in stored]))
    hits = hits[hits["seed"] >= 0]
    if len(stored) == 1:
        return hits
    hits = hits[np.lexsort([hits["word"], hits["document"]])]
    again = (np.diff(hits["document"]) == 0) & (np.diff(hits["word"]) == 0)
    once: NDArray[np.void] = hits[np.concatenate([[True], ~again])[: len(hits)]]
    return once
