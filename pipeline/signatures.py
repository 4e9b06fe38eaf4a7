"""MinHash signatures of word n-grams, a stage of its own because it runs in parallel."""

from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rensa
from blake3 import blake3
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup_files import DOCUMENT, EXTRA_KEYS, ORDER_TOP, Ints, Keys
from pipeline.documents import task_file
from pipeline.ngrams import NGrams, ngrams_of
from pipeline.reuse import FileByFile
from pipeline.task_report import tracked
from shards.atomic import atomic_write

_BATCH_ROWS, _RUN_DOCUMENTS, _DIGESTED = 4096, 1 << 18, 128
_COLUMNS = ["doc_id", "text", "characters", "content_hash"]
_BYTES_A_KEY = 30
_SUFFIXES = (".runs", ".docs", ".ids", ".ends", ".sizes.npy")
SHAPE = ("ngram_words", "bands", "rows_per_band", "seed")
"""The settings that signatures depend on."""


class WriteSignatures(FileByFile):
    """Kept documents of a task -> their keys in sorted runs, and what else is asked of them.

    `<rank>.runs` holds for every run the keys, uint64 [bands + 3, documents], every kind in
    ascending order, and the rows they belong to, uint32 of the same shape; `<rank>.sizes.npy` the
    documents of every run. `<rank>.docs` has a `DOCUMENT` record a row; `<rank>.ids` and
    `.ends` are the document ids as Arrow keeps strings.

    A band is the hash of its rows of the MinHash digest: documents that agree in a band are
    candidates. Documents without words have 0 in every band and are never candidates.
    """

    type = "🫂 - DEDUP"
    name = "signatures"

    def __init__(
        self,
        files: list[Path],
        config: DedupConfig,
        folder: Path,
        memory: int,
    ) -> None:
        super().__init__(folder, config.model_dump(include=set(SHAPE)))
        self.files, self.config = files, config
        keys = config.bands + EXTRA_KEYS
        self.run_documents = min(_RUN_DOCUMENTS, max(1, memory // (keys * _BYTES_A_KEY)))

    def inputs(self, rank: int) -> list[Path | str]:
        """The documents file."""
        return [self.files[rank]]

    def outputs(self, rank: int) -> list[Path]:
        """What is described above."""
        return [signature_file(self.folder, rank).with_suffix(suffix) for suffix in _SUFFIXES]

    def make(self, rank: int) -> None:
        """Write the signatures of the documents in input file `rank`."""
        with ExitStack() as stack:
            runs, docs, ids, ends, sizes = (
                stack.enter_context(atomic_write(path)) for path in self.outputs(rank)
            )
            writer = _Writer(runs, docs, ids, ends, self.run_documents)
            for batch in _batches(self.files[rank]):
                ngrams = ngrams_of(batch.column("text"), self.config.ngram_words)
                writer.add(batch, band_hashes(ngrams, self.config))
            np.save(sizes, writer.end())


class _Writer:
    """The files of one task."""

    def __init__(
        self,
        runs: IO[bytes],
        docs: IO[bytes],
        ids: IO[bytes],
        ends: IO[bytes],
        run_documents: int,
    ) -> None:
        self._runs, self._docs, self._ids, self._ends = runs, docs, ids, ends
        self._run_documents, self._rows, self._end = run_documents, 0, 0
        self._keys: list[Keys] = []
        self._sizes: list[int] = []
        ends.write(np.zeros(1, "<i8").data)

    def add(self, batch: pa.RecordBatch, bands: Keys) -> None:
        """Append the documents of a batch, with their bands: [documents, bands]."""
        ids = batch.column("doc_id").to_pylist()
        encoded = [doc_id.encode("utf-8") for doc_id in ids]
        ends = np.cumsum([len(doc_id) for doc_id in encoded], dtype=np.int64) + self._end
        docs = _documents(batch, encoded)
        self._ids.write(b"".join(encoded))
        self._ends.write(ends.data)
        self._docs.write(docs.data)
        self._end = int(ends[-1])
        order = ORDER_TOP - np.minimum(docs["characters"], ORDER_TOP).astype(np.uint64)
        order = (order << np.uint64(32)) | (docs["id_hash"] >> np.uint64(32))
        extra = np.stack([docs["hash_high"], docs["id_hash"], order], axis=1)
        self._keys.append(np.concatenate([bands, extra], axis=1))
        if sum(map(len, self._keys)) >= self._run_documents:
            self._flush()

    def end(self) -> Ints:
        """Write what is left; returns the documents of every run."""
        if self._keys:
            self._flush()
        return np.array(self._sizes, np.int64)

    def _flush(self) -> None:
        keys = np.ascontiguousarray(np.concatenate(self._keys).T)  # [kinds, documents]
        self._keys = []
        rows = np.empty(keys.shape, "<u4")
        for values, into in zip(keys, rows, strict=True):
            order = np.argsort(values)
            values[:], into[:] = values[order], order + self._rows
        self._runs.write(keys.data)
        self._runs.write(rows.data)
        self._sizes.append(keys.shape[1])
        self._rows += keys.shape[1]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Row group by row group: these are cut by their amount of text, batches by rows only."""
    with pq.ParquetFile(path) as file:
        for group in tracked(range(file.num_row_groups), file.num_row_groups):
            yield from file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=_COLUMNS)


def _documents(batch: pa.RecordBatch, doc_ids: list[bytes]) -> NDArray[np.void]:
    """The `DOCUMENT` records of a batch."""
    out = np.empty(batch.num_rows, DOCUMENT)
    hashes = b"".join(batch.column("content_hash").to_pylist())
    halves = np.frombuffer(hashes, "<u8").reshape(-1, 2)
    out["characters"] = batch.column("characters")
    out["hash_high"], out["hash_low"] = halves[:, 0], halves[:, 1]
    digests = b"".join([blake3(doc_id).digest(length=8) for doc_id in doc_ids])
    out["id_hash"] = np.frombuffer(digests, "<u8")
    return out


def signature_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes its signatures: the path without suffix."""
    return task_file(folder, rank).with_suffix("")


def band_hashes(ngrams: NGrams, config: DedupConfig) -> NDArray[np.uint64]:
    """One hash per document and band: uint64 [num_documents, bands]; 0 means no words."""
    num_documents = len(ngrams.offsets) - 1
    digests = _digests(ngrams, config.bands * config.rows_per_band, config.seed)
    out = np.full((num_documents, config.bands), 1, np.uint64)
    for row in range(config.rows_per_band):
        # digests: (documents, bands * rows) -> the row-th of every band: (documents, bands)
        out = (out ^ digests[:, row :: config.rows_per_band]) * np.uint64(0x9E3779B97F4A7C15)
        out ^= out >> np.uint64(32)
    out[out == 0] = 1
    out[np.diff(ngrams.offsets) == 0] = 0
    return out


def _digests(ngrams: NGrams, permutations: int, seed: int) -> NDArray[np.uint64]:
    """MinHash digests: [num_documents, permutations], numbers below 2**32.

    rensa gives them as lists of Python's integers. Of a few documents these stay in the cache.
    """
    numbers = array("I")
    for first in range(0, len(ngrams.offsets) - 1, _DIGESTED):
        ends = ngrams.offsets[first : first + _DIGESTED + 1]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            ngrams.hash[ends[0] : ends[-1]],
            (ends - ends[0]).astype(np.uint64),
            permutations,
            seed,
        )
        for row in matrix.to_rows():
            numbers.fromlist(row)
    return np.array(numbers, np.uint64).reshape(-1, permutations)
