"""MinHash signatures of word n-grams, a stage of its own because it runs in parallel."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import rensa
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.build import DedupConfig
from pipeline.documents import task_file
from pipeline.ngrams import NGrams, ngrams_of
from shards.atomic import atomic_write

_BATCH_ROWS = 4096


class WriteSignatures(PipelineStep):
    """Kept documents of a task -> uint64 [bands, num_documents] in `<rank>.npy`.

    A band is the hash of its rows of the MinHash digest: documents that agree in a band are
    candidates. Documents without words get the rank-independent value 0 in every band and are
    never candidates.
    """

    type = "🫂 - DEDUP"
    name = "signatures"

    def __init__(self, inputs: list[Path], config: DedupConfig, folder: Path) -> None:
        super().__init__()
        self.inputs, self.config, self.folder = inputs, config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the signatures of the documents in input file `rank`; yields nothing."""
        bands = [np.zeros((0, self.config.bands), np.uint64)]
        with pq.ParquetFile(self.inputs[rank]) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=["text"]):
                ngrams = ngrams_of(batch.column("text"), self.config.ngram_words)
                bands.append(band_hashes(ngrams, self.config))
        with atomic_write(signature_file(self.folder, rank)) as out:
            np.save(out, np.ascontiguousarray(np.concatenate(bands).T))
        yield from ()


def signature_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes its signatures."""
    return task_file(folder, rank).with_suffix(".npy")


def band_hashes(ngrams: NGrams, config: DedupConfig) -> NDArray[np.uint64]:
    """One hash per document and band: uint64 [num_documents, bands]; 0 means no words."""
    permutations = config.bands * config.rows_per_band
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        ngrams.hash, ngrams.offsets.astype(np.uint64), permutations, config.seed
    )
    num_documents = len(ngrams.offsets) - 1
    digests = np.array(matrix.to_rows(), np.uint64).reshape(num_documents, permutations)
    out = np.full((num_documents, config.bands), 1, np.uint64)
    for row in range(config.rows_per_band):
        # digests: (documents, bands * rows) -> the row-th of every band: (documents, bands)
        out = (out ^ digests[:, row :: config.rows_per_band]) * np.uint64(0x9E3779B97F4A7C15)
        out ^= out >> np.uint64(32)
    out[out == 0] = 1
    out[np.diff(ngrams.offsets) == 0] = 0
    return out
