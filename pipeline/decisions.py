"""What becomes of a document that passed the filters: duplicate, validation or training."""

from pathlib import Path
from typing import NamedTuple

import polars as pl
from blake3 import blake3

from configs.build import SplitConfig

SPLITS = ("train", "val")


class Fate(NamedTuple):
    """The stage that a document ends in, and how."""

    stage: str
    """`read`, `filter`, `dedup` or `pack`."""
    reason: str
    """The rule that dropped it, the kind of duplicate it is, or the split that holds it."""


class Decisions:
    """Decisions about the documents of one file, by document id.

    Args:
        duplicates: the file the deduplication stage wrote about them.
        split: how validation documents are chosen.
    """

    def __init__(self, duplicates: Path, split: SplitConfig) -> None:
        kinds = pl.read_parquet(duplicates, columns=["doc_id", "kind"])
        self._kinds = dict(kinds.iter_rows())
        self._split = split

    def fate(self, doc_id: str, content_hash: bytes) -> Fate:
        """Where a document that passed the filters ends."""
        kind = self._kinds.get(doc_id)
        if kind is not None:
            return Fate("dedup", kind)
        return Fate("pack", split_of(content_hash, self._split))

    def fates(self, doc_ids: list[str], content_hashes: list[bytes]) -> list[Fate]:
        """Where each of these documents ends."""
        return [self.fate(*pair) for pair in zip(doc_ids, content_hashes, strict=True)]


def split_of(content_hash: bytes, config: SplitConfig) -> str:
    """`val` or `train`, by the document's content and the seed alone.

    Neither other documents nor their order matter, so a document stays in its split when a
    dataset grows. Deduplication comes first: what repeats a validation document is not in train.
    """
    keyed = blake3(b"tally split %d " % config.seed + content_hash).digest(length=8)
    return "val" if int.from_bytes(keyed, "big") < config.val_fraction * 2**64 else "train"
