"""What can be audited: pieces (a file or a shard) of documents, read in blocks.

`open_corpus` makes a `Corpus` of a dataset directory, a text file or a folder of text files. Pieces
are the unit of resuming, blocks the unit of parallel work. Block borders follow from the content,
so nothing depends on the number of workers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from contamination.errors import AuditError
from contamination.token_words import TokenTable
from shards.loss_mask import Spans
from shards.manifest import MANIFEST_NAME
from shards.remote import is_remote

BLOCK_BYTES = 16 << 20
"""Text in a block, about."""


class Batch(NamedTuple):
    """Documents as bytes: document d is ``data[offsets[d]:offsets[d + 1]]`` (UTF-8)."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]


class TokenBatch(NamedTuple):
    """Documents as tokens: document d is ``tokens[starts[d]:stops[d]]``, without EOS."""

    tokens: NDArray[Any]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """Bytes of each."""
    table: TokenTable


def batch_of(texts: Sequence[bytes]) -> Batch:
    """Joins texts into a batch."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return Batch(np.frombuffer(b"".join(texts), np.uint8), offsets)


class Block(NamedTuple):
    """A part of a piece that is not decoded yet."""

    piece: str
    first_document: int
    content: Any
    size: int
    """Units of progress (see `Corpus.unit`)."""


@dataclass(frozen=True)
class Piece:
    """A file or a shard."""

    name: str
    key: str
    """Identity of the content: a piece of the same key has the same documents."""
    size: int
    """Units of progress."""


class Part(NamedTuple):
    """One of several shares of the pieces, for machines that scan one corpus together."""

    number: int
    """From 1 on."""
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Part of K/N.

        Raises:
            AuditError: it is no such thing.
        """
        number, slash, of = text.partition("/")
        if slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
            return cls(int(number), int(of))
        raise AuditError(f"--part {text}: it is K/N with K from 1 to N, as 3/8")

    def names(self, sizes: Mapping[str, int]) -> set[str]:
        """Its share of named pieces: from the largest on, each part takes one in turn."""
        ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
        return set(ordered[self.number - 1 :: self.of])


WHOLE = Part(1, 1)


class Document(NamedTuple):
    """One document, with everything that says where it is from."""

    text: bytes
    doc_id: str
    source: str
    split: str
    origin: str
    origin_row: int | None
    url: str | None
    shard: str | None
    token_start: int | None
    """Position of the first token in the stream of (source, split); None for text."""
    token_ends: NDArray[np.int64] | None
    """int64 [num_tokens], bytes of the text up to the end of each token; None for text."""
    masked: Spans | None = None
    """Tokens of the stream that give no loss, those about the document; None for text."""


class Corpus(Protocol):
    """What the audit reads."""

    kind: str
    digest: str
    """Identity of all of the content."""
    unit: str
    unit_scale: float
    """Progress shows size * unit_scale in `unit`."""
    pieces: tuple[Piece, ...]

    def blocks(self, piece: Piece) -> Iterator[Block]:
        """The blocks of a piece, in order."""

    def decode(self, block: Block) -> Batch:
        """The documents of a block; safe to call from several threads."""

    def packed(self, block: Block) -> TokenBatch | None:
        """The documents of a block as tokens; None where the corpus is text."""

    def documents(self, piece: Piece, wanted: Sequence[int]) -> Iterator[tuple[int, Document]]:
        """The documents of a piece with the wanted numbers (ascending)."""


def open_corpus(address: Path | str, text_column: str = "text", part: Part = WHOLE) -> Corpus:
    """A dataset (its directory, or an address as s3://bucket/name), text file, or folder of such.

    Args:
        address: where it is.
        text_column: of text files.
        part: the pieces to have, those of the whole by default; others are not read.

    Raises:
        AuditError: nothing there that can be audited.
        DatasetError: a dataset that cannot be opened.
    """
    path = Path(address)
    if not is_remote(address) and not path.exists():
        raise AuditError(
            f"{path}: no such file or directory; give a dataset, a .jsonl or .parquet, or a folder"
        )
    if is_remote(address) or (path / MANIFEST_NAME).is_file():
        from contamination.dataset_corpus import DatasetCorpus

        return DatasetCorpus(address, part)
    from contamination.text_corpus import TextCorpus

    return TextCorpus(path, text_column, part)
