"""Datasets that must not be repeated (`dedup.against`): their documents, decoded from the shards.

They take part in deduplication as documents that come before all others and are never dropped.
Equal texts are found by the hashes in their document index. For near-duplicates the tokens are
decoded; where a tokenizer normalises, the text differs a little, and how many do is counted.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from pipeline.documents import SCHEMA, task_file
from pipeline.errors import BuildError
from shards.atomic import atomic_write, write_json_atomic
from shards.detokenize import Decoder
from shards.errors import DatasetError
from shards.hashing import CONTENT_HASH_BYTES
from shards.manifest import Manifest, ShardFacts
from shards.reader import Dataset, TokenStream

_COLUMNS = ["doc_id", "token_start", "token_count", "char_count", "byte_count", "content_hash"]
_BATCH_TOKENS = 2_000_000


class Piece(NamedTuple):
    """One shard of a held dataset."""

    source: str
    split: str
    number: int
    facts: ShardFacts


class HeldDataset(NamedTuple):
    """A dataset that must not be repeated."""

    address: str
    manifest: Manifest

    @property
    def dataset_id(self) -> str:
        """The id in its manifest."""
        return self.manifest.dataset_id

    def pieces(self) -> list[Piece]:
        """All shards of all splits; those of a source stand together."""
        return [
            Piece(source, split, number, shard)
            for source, facts in self.manifest.sources.items()
            for split, split_facts in facts.splits.items()
            for number, shard in enumerate(split_facts.shards)
        ]

    def label(self, piece: Piece) -> str:
        """What the overlap matrix calls the shard's source: no name of a source has a slash."""
        return f"{self.dataset_id[:12]}/{piece.source}"


def open_held(addresses: Sequence[str]) -> list[HeldDataset]:
    """Open the datasets of `dedup.against`.

    Raises:
        BuildError: one is not there, or there twice.
    """
    held: list[HeldDataset] = []
    for address in addresses:
        try:
            found = HeldDataset(address, Dataset.open(address).manifest)
        except DatasetError as error:
            raise BuildError(f"dedup.against: {error}") from None
        for other in held:
            if other.dataset_id == found.dataset_id:
                raise BuildError(
                    f"dedup.against: {other.address} and {address} are the same dataset "
                    f"{found.dataset_id}; name it once"
                )
        held.append(found)
    return held


class DecodeHeld(PipelineStep):
    """One shard a task -> its documents in `<rank>.parquet`, counts in `<rank>.json`."""

    type = "📖 - READER"
    name = "held"

    def __init__(self, held: HeldDataset, folder: Path) -> None:
        super().__init__()
        self.address, self.dataset_id, self.folder = held.address, held.dataset_id, folder
        self.pieces = held.pieces()

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Decode shard number `rank`; yields nothing."""
        try:
            self._decode(rank)
        except DatasetError as error:
            raise BuildError(f"dedup.against: {error}") from None
        yield from ()

    def _decode(self, rank: int) -> None:
        dataset, piece = Dataset.open(self.address, check=True), self.pieces[rank]
        if dataset.manifest.dataset_id != self.dataset_id:
            raise BuildError(
                f"dedup.against: {self.address} is now dataset {dataset.manifest.dataset_id}, and "
                f"was {self.dataset_id} when the build began; run again to use it as it is"
            )
        stream, differing = dataset.stream(piece.source, piece.split), 0
        decode, skipped = Decoder(dataset.tokenizer()), _bos_tokens(dataset)
        with (
            atomic_write(task_file(self.folder, rank)) as file,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as out,
        ):
            for rows in _rows(stream, piece):
                starts = rows["token_start"].to_numpy()
                stops = starts + rows["token_count"].to_numpy() - 1  # without EOS
                tokens = stream.shard_tokens(piece.number)[starts[0] : stops[-1]]
                texts = decode.texts(tokens, starts + skipped - starts[0], stops - starts[0])
                out.write_table(_documents(rows, texts))
                hashes = [blake3(text).digest(length=CONTENT_HASH_BYTES) for text in texts]
                pairs = zip(hashes, rows["content_hash"].to_pylist(), strict=True)
                differing += sum(mine != theirs for mine, theirs in pairs)
        facts = {"documents": piece.facts.documents, "decoded_differently": differing}
        write_json_atomic(_facts_file(self.folder, rank), facts)


def held_facts(held: HeldDataset, folder: Path) -> dict[str, Any]:
    """What the manifest says about a held dataset."""
    tasks = [
        json.loads(_facts_file(folder, rank).read_text(encoding="utf-8"))
        for rank in range(len(held.pieces()))
    ]
    names = ("documents", "decoded_differently")
    counts = {name: sum(task[name] for task in tasks) for name in names}
    return {"dataset_id": held.dataset_id, "name": held.manifest.name, **counts}


def _rows(stream: TokenStream, piece: Piece) -> Iterator[pa.Table]:
    """The index of a shard, about so many tokens at a time."""
    with pq.ParquetFile(stream.files.path(piece.facts.index_path)) as file:
        for batch in file.iter_batches(columns=_COLUMNS):
            table, start = pa.Table.from_batches([batch]), 0
            ends = np.cumsum(table["token_count"].to_numpy())
            while start < len(ends):
                room = _BATCH_TOKENS + (ends[start - 1] if start else 0)
                stop = max(start + 1, int(np.searchsorted(ends, room, "right")))
                yield table.slice(start, stop - start)
                start = stop


def _documents(rows: pa.Table, texts: list[bytes]) -> pa.Table:
    columns = {
        "doc_id": rows["doc_id"],
        "text": pa.array([text.decode("utf-8", "replace") for text in texts], pa.large_string()),
        "characters": rows["char_count"],
        "bytes": rows["byte_count"],
        "content_hash": rows["content_hash"],
    }
    none = pa.nulls(len(rows))
    return pa.table([columns.get(name, none) for name in SCHEMA.names], SCHEMA.names).cast(SCHEMA)


def _bos_tokens(dataset: Dataset) -> int:
    """How many tokens stand before the text of every document: one where there is a BOS."""
    settings = dataset.manifest.config.get("tokenizer") or {}
    return int(settings.get("bos_token") is not None)


def _facts_file(folder: Path, rank: int) -> Path:
    return task_file(folder, rank).with_suffix(".json")
