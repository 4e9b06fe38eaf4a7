"""What all interchange formats share: a split of ours to write, documents of theirs to read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from shards.errors import DatasetError
from shards.manifest import ShardFacts, SplitFacts
from shards.reader import Dataset

Ids = npt.NDArray[np.integer[Any]]
EosAt = Literal["end", "start", "none"]


@dataclass(frozen=True)
class Part:
    """One split of one source of a dataset of ours, to be written in another format."""

    dataset: Dataset
    source: str
    split: str

    @property
    def facts(self) -> SplitFacts:
        """The split's shards and totals."""
        return self.dataset.stream(self.source, self.split).facts

    @property
    def token_bytes(self) -> int:
        """Bytes of one token: 2 or 4."""
        return np.dtype(self.dataset.manifest.tokenizer.dtype).itemsize

    def shard_file(self, shard: ShardFacts) -> Path:
        """The shard's token file."""
        return self.dataset.files.path(shard.path)

    def index(self, shard: ShardFacts) -> pl.DataFrame:
        """The shard's document index, `token_start` counted in the shard."""
        return pl.read_parquet(self.dataset.files.checked(shard.index_path))


class Reading(NamedTuple):
    """How to read files that do not say it themselves."""

    eos_id: int
    eos_at: EosAt
    """Where EOS stands in a document: at its end, at its start, or nowhere."""
    dtype: np.dtype[np.uint16] | np.dtype[np.uint32]
    """Of the tokens in files without a header."""


class Label(NamedTuple):
    """What a format says of a document besides its tokens."""

    doc_id: str | None
    origin_file: str | None
    origin_row: int | None
    url: str | None = None
    text: str | None = None


class TokenFile(NamedTuple):
    """One opened token file of another format."""

    path: Path
    tokens: Ids  # [num_tokens], memory-mapped
    ends: npt.NDArray[np.int64] | None = None  # [num_documents], cumulative; None: cut at EOS
    labels: Iterator[Label] | None = None  # one a document


class PeerDocument(NamedTuple):
    """One document of another format."""

    content: Ids  # [n], without EOS
    path: Path
    row: int  # of the document in the file
    start: int  # of the content in the file, in tokens
    label: Label | None


def map_tokens(path: Path, offset: int, dtype: "np.dtype[Any]") -> Ids:
    """Map the tokens of a file from byte `offset` on: [num_tokens].

    Raises:
        DatasetError: the bytes are no whole number of tokens.
    """
    size = path.stat().st_size - offset
    if size < 0 or size % dtype.itemsize:
        raise DatasetError(
            f"{path}: {size} bytes from byte {offset} on are no whole number of {dtype.name} "
            f"tokens of {dtype.itemsize} bytes; cut off, or of another type (--dtype)"
        )
    if not size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset)


def head_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
