"""Files that deduplication works on: sorted runs of keys, maps of documents.

Documents are numbered by row: the files of all inputs one after the other, in reading order. What
is known of every document lies in files that are mapped, never loaded: per file the signatures
stage's keys, characters, hashes and ids; over all files a few bytes a document. Keys are stored as
runs, each in ascending order, so that all documents in a range of a key are a slice of every run:
an external sort whose parts are as large as the memory allows. No result depends on the parts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from shards.atomic import sync, temporary_of

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

NONE = np.uint32(2**32 - 1)
"""No document, where documents are numbered in 32 bits."""
EXTRA_KEYS = 3
"""Keys beside the bands: see `content_kind`, `id_kind`, `order_kind`."""
DOCUMENT = np.dtype(
    [("characters", "<i8"), ("hash_high", "<u8"), ("hash_low", "<u8"), ("id_hash", "<u8")]
)
"""What is kept of a document beside its keys and its id."""
ORDER_TOP = np.uint64(2**32 - 1)
"""Characters of a document that the order looks at, at most."""
_PROCESS_BYTES = 320_000_000
_SAMPLE_KEYS = 1 << 16


def working_bytes(config: DedupConfig) -> int:
    """What is left of `memory_mb` beside the process itself (its libraries and compiled code)."""
    return config.memory_mb * 1_000_000 - _PROCESS_BYTES


def content_kind(config: DedupConfig) -> int:
    """The key that is the first half of the content hash."""
    return config.bands


def id_kind(config: DedupConfig) -> int:
    """The key that is a hash of the document id."""
    return config.bands + 1


def order_kind(config: DedupConfig) -> int:
    """The key by which the documents of a source are taken: longer first, then by `id_hash`."""
    return config.bands + 2


class DedupInput(NamedTuple):
    """One file of documents and what the signatures stage wrote about it."""

    source: str
    documents: Path
    signatures: Path
    """Path without suffix, see `signature_file`."""
    held: bool = False
    """Whether the documents belong to a dataset that must not be repeated: never dropped."""


class _Run(NamedTuple):
    file: int
    base: int
    keys: Keys  # [kinds, documents], ascending in every kind
    rows: NDArray[np.uint32]  # [kinds, documents], rows within the file


class Corpus:
    """All inputs, mapped.

    Args:
        inputs: files of documents; the held ones come last.
        kinds: number of keys of a document.

    Attributes:
        bases: int64 [num_files + 1], the first row of every file, and the number of rows.
        own: number of rows that are not held.
    """

    def __init__(self, inputs: Sequence[DedupInput], kinds: int) -> None:
        self.inputs = inputs
        self._files = [map_file(item.signatures.with_suffix(".docs"), DOCUMENT) for item in inputs]
        self._ids = [_map_ids(item.signatures) for item in inputs]
        self.bases = np.zeros(len(inputs) + 1, np.int64)
        np.cumsum([len(file) for file in self._files], out=self.bases[1:])
        self.own = sum(
            len(file) for file, item in zip(self._files, inputs, strict=True) if not item.held
        )
        self._runs = [
            _Run(number, int(self.bases[number]), keys, rows)
            for number, item in enumerate(inputs)
            for keys, rows in _runs(item.signatures, kinds)
        ]

    def __len__(self) -> int:
        return int(self.bases[-1])

    def splitters(
        self, kind: int, part_documents: int, files: range | None = None, least: int = 0
    ) -> list[tuple[int, int]]:
        """Ranges [low, high) of a key, from `least` on, with about so many documents each."""
        runs = self._of(files)
        size = sum(run.keys.shape[1] for run in runs)
        return ranges([run.keys[kind] for run in runs], -(-size // part_documents), least)

    def part(self, kind: int, low: int, high: int, files: range | None = None) -> tuple[Ints, Keys]:
        """Rows whose key lies in [low, high), and the keys; no order is promised."""
        rows, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for run in self._of(files):
            start, stop = slice_of(run.keys[kind], low, high)
            rows.append(run.rows[kind, start:stop].astype(np.int64) + run.base)
            keys.append(run.keys[kind, start:stop])
        return np.concatenate(rows), np.concatenate(keys)

    def gather(self, field: str, rows: Ints) -> NDArray[Any]:
        """A field of `DOCUMENT` of the given rows."""
        out = np.empty(len(rows), DOCUMENT[field])
        for number, here, local in self.by_file(rows):
            out[here] = self._files[number][field][local]
        return out

    def ids(self, rows: Ints) -> pa.Array:
        """Document ids of the given rows: strings."""
        parts, places = [pa.array([], pa.large_string())], [np.zeros(0, np.int64)]
        for number, here, local in self.by_file(rows):
            parts.append(self._ids[number].take(pa.array(local)))
            places.append(here)
        back = np.empty(len(rows), np.int64)
        back[np.concatenate(places)] = np.arange(len(rows))
        return pa.chunked_array(parts).combine_chunks().take(pa.array(back))

    def by_file(self, rows: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """For every file among the rows: its number, which of them, and their rows in the file."""
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        cuts = np.searchsorted(ordered, self.bases)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            here = slice(cuts[number], cuts[number + 1])
            yield number, order[here], ordered[here] - self.bases[number]

    def file_of(self, rows: Ints) -> Ints:
        """The number of every row's file."""
        found: Ints = np.searchsorted(self.bases, rows, "right") - 1
        return found

    def _of(self, files: range | None) -> list[_Run]:
        return [run for run in self._runs if files is None or run.file in files]


def _runs(signatures: Path, kinds: int) -> Iterator[tuple[Keys, NDArray[np.uint32]]]:
    data, start = map_file(signatures.with_suffix(".runs"), np.dtype(np.uint8)), 0
    for size in np.load(signatures.with_suffix(".sizes.npy")).tolist():
        middle, stop = start + 8 * kinds * size, start + 12 * kinds * size
        keys = data[start:middle].view("<u8").reshape(kinds, size)
        yield keys, data[middle:stop].view("<u4").reshape(kinds, size)
        start = stop


def _map_ids(signatures: Path) -> pa.LargeStringArray:
    ends = map_file(signatures.with_suffix(".ends"), np.dtype("<i8"))
    text = map_file(signatures.with_suffix(".ids"), np.dtype(np.uint8))
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))


def map_file(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A file as an array in memory that the system fills as it is read; empty files too."""
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


def map_array(path: Path) -> NDArray[Any]:
    """An `.npy` file, mapped."""
    return np.asarray(np.load(path, mmap_mode="r"))


@contextmanager
def new_map(path: Path, size: int, dtype: Any) -> Iterator[NDArray[Any]]:
    """An array of zeros in a file that becomes `path` when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    try:
        array = np.lib.format.open_memmap(temporary, "w+", dtype, (size,))
        yield array
        array.flush()
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def slice_of(keys: Keys, low: int, high: int) -> tuple[int, int]:
    """Where the keys in [low, high) lie in an ascending array."""
    start = int(np.searchsorted(keys, np.uint64(low)))
    stop = len(keys) if high >= 2**64 else int(np.searchsorted(keys, np.uint64(high)))
    return start, stop


def ranges(runs: Sequence[Keys], parts: int, least: int = 0) -> list[tuple[int, int]]:
    """Cut the range of keys into `parts` (or fewer) that hold about as many each.

    Args:
        runs: ascending arrays.
        parts: number of parts wanted.
        least: where the first part begins.
    """
    size = sum(map(len, runs))
    step = max(1, size // _SAMPLE_KEYS)
    sample = np.sort(np.concatenate([np.zeros(0, np.uint64), *(run[::step] for run in runs)]))
    places = np.arange(1, parts) * len(sample) // max(parts, 1)
    cuts = [int(key) for key in np.unique(sample[places]) if key > least] if len(sample) else []
    return list(zip([least, *cuts], [*cuts, 2**64], strict=True))
