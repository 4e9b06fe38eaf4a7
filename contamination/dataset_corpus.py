"""A finished dataset to audit: its shards decoded back to the exact bytes of their documents."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contamination.corpus import (
    BLOCK_BYTES,
    WHOLE,
    Batch,
    Block,
    Document,
    Part,
    Piece,
    TokenBatch,
)
from contamination.errors import AuditError
from contamination.token_words import document_sizes, token_table
from shards.detokenize import byte_table
from shards.hashing import blake3_json
from shards.manifest import ShardFacts
from shards.reader import Dataset, TokenStream

_BLOCK_TOKENS = BLOCK_BYTES // 4
_CHECKED_DOCUMENTS = 20


class _Shard(NamedTuple):
    stream: TokenStream
    number: int
    facts: ShardFacts


class DatasetCorpus:
    """Every shard of every source and split."""

    kind = "dataset"
    unit = "M tokens"
    unit_scale = 1e-6

    def __init__(self, address: Path | str, part: Part = WHOLE) -> None:
        self._dataset = Dataset.open(address, check=True)
        self.digest = self._dataset.manifest.dataset_id
        self._table = byte_table(self._dataset.tokenizer())
        self._words = token_table(self._table)
        self._shards: dict[str, _Shard] = {}
        self._index: tuple[TokenStream, pl.DataFrame] | None = None
        for source, facts in self._dataset.manifest.sources.items():
            for split, split_facts in facts.splits.items():
                stream = self._dataset.stream(source, split)
                for number, shard in enumerate(split_facts.shards):
                    self._shards[shard.path] = _Shard(stream, number, shard)
        here = part.names({name: shard.facts.tokens for name, shard in self._shards.items()})
        self.pieces = tuple(self._piece(name) for name in self._shards if name in here)
        if self.pieces:
            self._check_decoding(self.pieces[0])

    def _piece(self, name: str) -> Piece:
        facts = self._shards[name].facts
        tokenizer = self._dataset.manifest.tokenizer.blake3
        key = blake3_json([facts.blake3, facts.index_blake3, tokenizer, _BLOCK_TOKENS])
        return Piece(name, key[:32], facts.tokens)

    def blocks(self, piece: Piece) -> Iterator[Block]:
        """Runs of whole documents."""
        stream, documents = self._shards[piece.name].stream, self._documents(piece)
        starts = documents["token_start"].to_numpy()
        bounds = np.append(starts, starts[-1] + documents["token_count"][-1])
        first = 0
        while first < len(starts):
            last = int(np.searchsorted(bounds, bounds[first] + _BLOCK_TOKENS, side="right")) - 1
            last = min(max(last, first + 1), len(starts))
            size = int(bounds[last] - bounds[first])
            yield Block(piece.name, first, (stream, bounds[first : last + 1]), size)
            first = last

    def decode(self, block: Block) -> Batch:
        """The bytes of the documents, without their EOS."""
        return Batch(*self._table.decode(*self._tokens(block)))

    def packed(self, block: Block) -> TokenBatch:
        """The tokens of the documents, without their EOS."""
        tokens, starts, stops = self._tokens(block)
        sizes = np.empty(len(starts), np.int64)
        document_sizes(tokens, starts, stops, self._words.rows, sizes)
        return TokenBatch(tokens, starts, stops, sizes, self._words)

    def _tokens(self, block: Block) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        stream, bounds = block.content
        tokens = np.asarray(stream.tokens(int(bounds[0]), int(bounds[-1])))
        ends = bounds[1:] - bounds[0] - 1
        eos = self._dataset.manifest.tokenizer.eos_id
        if not np.all(tokens[ends] == eos):
            raise AuditError(
                f"{stream.source}/{stream.split}: a document does not end with EOS; "
                "run `tally verify` on the dataset"
            )
        return tokens, bounds[:-1] - bounds[0], ends

    def documents(self, piece: Piece, wanted: Sequence[int]) -> Iterator[tuple[int, Document]]:
        """Documents with their text, origin and token positions."""
        shard, index = self._shards[piece.name], self._documents(piece)
        for number in wanted:
            yield number, self._document(shard, piece, index.row(number, named=True))

    def _document(self, shard: _Shard, piece: Piece, row: dict[str, Any]) -> Document:
        start, count = int(row["token_start"]), int(row["token_count"])
        tokens = np.asarray(shard.stream.tokens(start, start + count - 1))
        data, _ = self._table.decode(tokens, np.array([0]), np.array([len(tokens)]))
        return Document(
            text=data.tobytes(),
            doc_id=row["doc_id"],
            source=shard.stream.source,
            split=shard.stream.split,
            origin=row["origin_file"],
            origin_row=row["origin_row"],
            url=row["url"],
            shard=piece.name,
            token_start=start,
            token_ends=self._table.ends(tokens),
            masked=shard.stream.masked_within(start, start + count),
        )

    def _documents(self, piece: Piece) -> pl.DataFrame:
        shard = self._shards[piece.name]
        if self._index is None or self._index[0] is not shard.stream:
            self._index = shard.stream, shard.stream.documents()
        return self._index[1].filter(pl.col("shard") == shard.number)

    def _check_decoding(self, piece: Piece) -> None:
        """The byte table against the tokenizer itself, on the first documents."""
        shard, index = self._shards[piece.name], self._documents(piece)
        tokenizer = self._dataset.tokenizer()
        for row in index.head(_CHECKED_DOCUMENTS).iter_rows(named=True):
            start = int(row["token_start"])
            tokens = shard.stream.tokens(start, start + int(row["token_count"]) - 1)
            expected = tokenizer.decode(tokens.tolist(), skip_special_tokens=False).encode()
            if self._document(shard, piece, row).text != expected:
                raise AuditError(
                    f"{piece.name}: document {row['doc_id']} decodes differently with the "
                    "tokenizer; audit the text instead of the packed tokens"
                )
