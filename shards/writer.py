"""Documents in, shards out: packed tokens and the document index, each file whole or absent."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from shards.index import DocumentRow, index_frame
from shards.loss_mask import Spans
from shards.manifest import ShardFacts, SplitFacts
from shards.shard_files import (
    Dtype,
    Tokens,
    check_documents,
    shard_facts,
    write_documents,
    write_mask,
    write_tokens,
)


def token_dtype(vocab_size: int) -> Dtype:
    """Little-endian uint16, or uint32 where the vocabulary has more than 65,536 entries."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


MOST_DOCUMENTS = 1 << 20
"""In a shard, however small they are: an index is written as a whole, 800 bytes a document."""


class Filled(NamedTuple):
    """What a shard has already."""

    tokens: int = 0
    documents: int = 0


def fitting(ends: npt.NDArray[np.int64], first: int, filled: Filled, shard_tokens: int) -> int:
    """Up to which document a shard goes: the one way in which documents are shared out.

    Args:
        ends: tokens of the documents so far, each included: [num_documents].
        first: the first document that is in no shard yet.
        filled: what the shard has already.
        shard_tokens: the most tokens it is to have; of documents it has `MOST_DOCUMENTS` at most.

    Returns:
        The number past its last document; `first` where the shard is full. A document that is
        larger than a shard gets one of its own.
    """
    base = int(ends[first - 1]) if first else 0
    stop = int(np.searchsorted(ends, base + shard_tokens - filled.tokens, side="right"))
    stop = min(stop, first + MOST_DOCUMENTS - filled.documents)
    return max(stop, first if filled.documents else first + 1)


class SplitWriter:
    """Writes one split of one source as shards of whole documents.

    A shard is closed before a document that would take it over `shard_tokens`, or over
    `MOST_DOCUMENTS` documents; a single longer document gets a shard of its own.

    Args:
        directory: of the dataset.
        source: the documents' source.
        split: their split.
        dtype: of a token.
        eos_id: what every document ends with.
        shard_tokens: the most tokens in a shard.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        split: str,
        dtype: Dtype,
        eos_id: int,
        shard_tokens: int,
    ) -> None:
        self._directory, self._prefix = directory, f"{source}/{split}"
        self._dtype, self._eos_id, self._shard_tokens = dtype, eos_id, shard_tokens
        self._rows: list[pl.DataFrame] = []
        self._tokens: list[npt.NDArray[np.unsignedinteger[Any]]] = []
        self._masked: list[Spans] = []
        self._filled = Filled()
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
        check_documents(self._prefix, rows, tokens, self._eos_id, self._dtype)
        first = 0
        while first < len(rows):
            base = int(ends[first - 1]) if first else 0
            stop = fitting(ends, first, self._filled, self._shard_tokens)
            if stop == first:
                self._flush()
                continue
            end = int(ends[stop - 1])
            # What lies before or behind becomes empty, and `merged` leaves it out.
            self._masked.append(np.clip(masked, base, end) - base + self._filled.tokens)
            self._append(rows[first:stop], tokens[base:end])
            first = stop

    def close(self) -> SplitFacts:
        """Write what is pending and return the split's facts."""
        if self._filled.documents:
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
        self._filled = Filled(self._filled.tokens + len(tokens), self._filled.documents + len(rows))
        sums = (int(rows[name].sum()) for name in ("char_count", "byte_count"))
        self._totals += np.array([len(rows), *sums])

    def _flush(self) -> None:
        directory, name = self._directory, f"{self._prefix}/{len(self._shards):05d}"
        tokens = write_tokens(directory, name, self._tokens)
        documents = write_documents(directory, name, pl.concat(self._rows, rechunk=True))
        masked = write_mask(directory, name, self._masked)
        self._shards.append(shard_facts(tokens, masked, documents))
        self._rows, self._tokens, self._masked, self._filled = [], [], [], Filled()
