"""Documents in, shards out: packed tokens and the document index, each file whole or absent."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shards.atomic import atomic_write
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.index import SCHEMA, DocumentRow, index_frame, write_ids, write_index
from shards.loss_mask import SUFFIX, Spans, as_bytes, merged
from shards.manifest import MaskFacts, ShardFacts, SplitFacts

__all__ = ["DocumentRow", "SplitWriter", "fitting", "token_dtype"]

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Little-endian uint16, or uint32 where the vocabulary has more than 65,536 entries."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def fitting(ends: npt.NDArray[np.int64], first: int, pending: int, shard_tokens: int) -> int:
    """Up to which document a shard goes: the one way in which documents are shared out.

    Args:
        ends: tokens of the documents so far, each included: [num_documents].
        first: the first document that is in no shard yet.
        pending: tokens that the shard has already.
        shard_tokens: the most it is to have.

    Returns:
        The number past its last document; `first` where the shard is full. A document that is
        larger than a shard gets one of its own.
    """
    base = int(ends[first - 1]) if first else 0
    stop = int(np.searchsorted(ends, base + shard_tokens - pending, side="right"))
    return max(stop, first if pending else first + 1)


class SplitWriter:
    """Writes one split of one source as shards of whole documents.

    A shard is closed before a document that would take it over `shard_tokens`; a single longer
    document gets a shard of its own.

    Args:
        directory: of the dataset.
        source: the documents' source.
        split: their split.
        dtype: of a token.
        eos_id: what every document ends with.
        shard_tokens: the most tokens in a shard.
        first_shard: number of the first shard to be written.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        split: str,
        dtype: np.dtype[np.uint16] | np.dtype[np.uint32],
        eos_id: int,
        shard_tokens: int,
        first_shard: int = 0,
    ) -> None:
        self._directory, self._prefix = directory, f"{source}/{split}"
        self._dtype, self._eos_id, self._shard_tokens = dtype, eos_id, shard_tokens
        self._first_shard = first_shard
        self._rows: list[pl.DataFrame] = []
        self._tokens: list[npt.NDArray[np.unsignedinteger[Any]]] = []
        self._masked: list[Spans] = []
        self._pending = 0
        self._shards: list[ShardFacts] = []
        self._totals = np.zeros(3, np.int64)  # documents, characters, bytes

    def add(self, row: DocumentRow, tokens: Tokens) -> None:
        """Append one document; `add_many` is the faster way for many.

        Args:
            row: the document's facts.
            tokens: integer ids [num_tokens], the last one EOS and no other.

        Raises:
            DatasetError: no EOS at the end, or an id that the dtype cannot hold.
        """
        self.add_many(index_frame([row], [len(tokens)]), tokens)

    def add_many(self, rows: pl.DataFrame, tokens: Tokens, masked: Spans | None = None) -> None:
        """Append documents.

        Args:
            rows: the columns of the document index, `token_count` among them; `token_start` is
                not looked at.
            tokens: integer ids of all of them, one after the other; each ends with EOS, and has
                it nowhere else.
            masked: which of the tokens give no loss.

        Raises:
            DatasetError: no EOS at an end, or an id that the dtype cannot hold.
        """
        masked = np.empty((0, 2), np.int64) if masked is None else masked
        ends = rows["token_count"].cum_sum().to_numpy()
        self._check(rows, tokens, ends)
        first = 0
        while first < len(rows):
            base = int(ends[first - 1]) if first else 0
            stop = fitting(ends, first, self._pending, self._shard_tokens)
            if stop == first:
                self._flush()
                continue
            end = int(ends[stop - 1])
            # What lies before or behind becomes empty, and `merged` leaves it out.
            self._masked.append(np.clip(masked, base, end) - base + self._pending)
            self._append(rows[first:stop], tokens[base:end])
            first = stop

    def close(self) -> SplitFacts:
        """Write what is pending and return the split's facts."""
        if self._pending:
            self._flush()
        documents, characters, size = self._totals.tolist()
        return SplitFacts(
            tokens=sum(shard.tokens for shard in self._shards),
            documents=documents,
            characters=characters,
            bytes_utf8=size,
            shards=tuple(self._shards),
        )

    def _append(self, rows: pl.DataFrame, tokens: Tokens) -> None:
        self._rows.append(rows)
        self._tokens.append(tokens.astype(self._dtype))  # a copy: the caller may reuse its own
        self._pending += len(tokens)
        sums = (int(rows[name].sum()) for name in ("char_count", "byte_count"))
        self._totals += np.array([len(rows), *sums])

    def _check(self, rows: pl.DataFrame, tokens: Tokens, ends: npt.NDArray[np.int64]) -> None:
        if (int(ends[-1]) if len(ends) else 0) != len(tokens):
            raise DatasetError(f"{self._prefix}: {len(tokens)} tokens for rows of {ends[-1:]}")
        if not len(tokens):
            return
        bad = (rows["token_count"].to_numpy() < 1) | (tokens[ends - 1] != self._eos_id)
        if bad.any():
            document = rows["doc_id"][int(bad.argmax())]
            raise DatasetError(f"document {document}: tokens do not end with EOS {self._eos_id}")
        is_eos = tokens == self._eos_id
        if np.count_nonzero(is_eos) != len(ends):
            inside = np.setdiff1d(np.flatnonzero(is_eos), ends - 1)[0]
            document = rows["doc_id"][int(np.searchsorted(ends, inside, side="right"))]
            raise DatasetError(f"document {document}: EOS {self._eos_id} inside the document")
        if int(tokens.max()) > np.iinfo(self._dtype).max:
            document = rows["doc_id"][int(np.searchsorted(ends, tokens.argmax(), side="right"))]
            raise DatasetError(f"document {document}: token {tokens.max()} > {self._dtype}")

    def _flush(self) -> None:
        name = f"{self._prefix}/{self._first_shard + len(self._shards):05d}"
        path, index_path, ids_path = (name + end for end in (".bin", ".docs.parquet", ".docs.ids"))
        with atomic_write(self._directory / path) as file:
            for tokens in self._tokens:
                file.write(tokens.data)
        rows = pl.concat(self._rows, rechunk=True)
        starts = rows["token_count"].cum_sum() - rows["token_count"]
        frame = rows.with_columns(starts.alias("token_start")).select(list(SCHEMA))
        for sidecar, write in ((index_path, write_index), (ids_path, write_ids)):
            with atomic_write(self._directory / sidecar) as file:
                write(frame, file)
        facts = self._facts(path, index_path, ids_path, len(frame))
        self._shards.append(facts.model_copy(update={"masked": self._write_mask(name + SUFFIX)}))
        self._rows, self._tokens, self._masked, self._pending = [], [], [], 0

    def _write_mask(self, path: str) -> MaskFacts | None:
        spans = merged(np.concatenate(self._masked))
        if not len(spans):
            return None
        with atomic_write(self._directory / path) as file:
            file.write(as_bytes(spans))
        return MaskFacts(
            path=path,
            bytes=spans.nbytes,
            blake3=blake3_file(self._directory / path),
            tokens=int((spans[:, 1] - spans[:, 0]).sum()),
        )

    def _facts(self, path: str, index_path: str, ids_path: str, documents: int) -> ShardFacts:
        shard, index, ids = (self._directory / name for name in (path, index_path, ids_path))
        return ShardFacts(
            path=path,
            tokens=self._pending,
            documents=documents,
            bytes=shard.stat().st_size,
            blake3=blake3_file(shard),
            index_path=index_path,
            index_bytes=index.stat().st_size,
            index_blake3=blake3_file(index),
            ids_path=ids_path,
            ids_bytes=ids.stat().st_size,
            ids_blake3=blake3_file(ids),
        )
