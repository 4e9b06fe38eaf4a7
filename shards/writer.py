"""Documents in, shards out: packed tokens and the document index, each file whole or absent."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.atomic import atomic_write
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.index import DocumentRow, index_frame
from shards.manifest import ShardFacts, SplitFacts

__all__ = ["DocumentRow", "SplitWriter", "token_dtype"]

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Little-endian uint16, or uint32 where the vocabulary has more than 65,536 entries."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class SplitWriter:
    """Writes one split of one source as shards of whole documents.

    A shard is closed before a document that would take it over `shard_tokens`; a single longer
    document gets a shard of its own.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        split: str,
        dtype: np.dtype[np.uint16] | np.dtype[np.uint32],
        eos_id: int,
        shard_tokens: int,
    ) -> None:
        self._directory, self._prefix = directory, f"{source}/{split}"
        self._dtype, self._eos_id, self._shard_tokens = dtype, eos_id, shard_tokens
        self._rows: list[DocumentRow] = []
        self._tokens: list[npt.NDArray[np.unsignedinteger[Any]]] = []
        self._pending = 0
        self._shards: list[ShardFacts] = []
        self._documents = self._characters = self._bytes = self._total = 0

    def add(self, row: DocumentRow, tokens: Tokens) -> None:
        """Append one document.

        Args:
            row: the document's facts.
            tokens: integer ids [num_tokens], the last one EOS and no other.

        Raises:
            DatasetError: no EOS at the end, or an id that the dtype cannot hold.
        """
        self._check(row, tokens)
        if self._pending and self._pending + len(tokens) > self._shard_tokens:
            self._flush()
        self._rows.append(row)
        self._tokens.append(tokens.astype(self._dtype))
        self._pending += len(tokens)
        self._documents += 1
        self._characters += row.char_count
        self._bytes += row.byte_count

    def close(self) -> SplitFacts:
        """Write what is pending and return the split's facts."""
        if self._pending:
            self._flush()
        return SplitFacts(
            tokens=self._total,
            documents=self._documents,
            characters=self._characters,
            bytes_utf8=self._bytes,
            shards=tuple(self._shards),
        )

    def _check(self, row: DocumentRow, tokens: Tokens) -> None:
        if not len(tokens) or tokens[-1] != self._eos_id:
            raise DatasetError(f"document {row.doc_id}: tokens do not end with EOS {self._eos_id}")
        if np.count_nonzero(tokens == self._eos_id) != 1:
            raise DatasetError(f"document {row.doc_id}: EOS {self._eos_id} inside the document")
        if int(tokens.max()) > np.iinfo(self._dtype).max:
            raise DatasetError(f"document {row.doc_id}: token {tokens.max()} > {self._dtype}")

    def _flush(self) -> None:
        name = f"{self._prefix}/{len(self._shards):05d}"
        path, index_path = f"{name}.bin", f"{name}.docs.parquet"
        with atomic_write(self._directory / path) as file:
            for tokens in self._tokens:
                file.write(tokens.data)
        frame = index_frame(self._rows, [len(tokens) for tokens in self._tokens])
        with atomic_write(self._directory / index_path) as file:
            frame.write_parquet(file, compression="zstd")
        self._shards.append(self._facts(path, index_path))
        self._total += self._pending
        self._rows, self._tokens, self._pending = [], [], 0

    def _facts(self, path: str, index_path: str) -> ShardFacts:
        shard, index = self._directory / path, self._directory / index_path
        return ShardFacts(
            path=path,
            tokens=self._pending,
            documents=len(self._rows),
            bytes=shard.stat().st_size,
            blake3=blake3_file(shard),
            index_path=index_path,
            index_bytes=index.stat().st_size,
            index_blake3=blake3_file(index),
        )
