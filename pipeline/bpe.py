"""The tokenizer of a dataset: byte-level BPE trained on its train split, or a file as given."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from configs.build import SplitConfig, TokenizerConfig
from pipeline.decisions import Decisions, Fate
from pipeline.documents import task_file
from pipeline.encoders import BATCH_DOCUMENTS, Encoded
from pipeline.errors import BuildError
from pipeline.revisions import Revisions
from pipeline.task_report import tracked
from pipeline.tokenizer_file import num_ids, vocabulary
from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_file
from shards.shard_files import Tokens
from shards.tokenizer_file import load_tokenizer
from shards.writer import token_dtype

TOKENIZER = "tokenizer.json"
TRAINED_ON = "trained_on.json"
"""What a tokenizer was trained on; beside it, where it was trained."""


class MakeTokenizer(PipelineStep):
    """The one task of the stage: train (or copy) `tokenizer.json`.

    Args:
        inputs: (source, documents file) in reading order.
        duplicates: what the deduplication stage decided.
        revised: folders of the stages that revised the documents, in order.
        split: how validation documents, which are not trained on, are chosen.
        config: size of the vocabulary.
        given: the file to use, where none is trained.
        folder: where to write.
    """

    type = "🔢 - TOKENIZER"
    name = "train"

    def __init__(
        self,
        inputs: list[tuple[str, Path]],
        duplicates: Path,
        revised: Sequence[Path],
        split: SplitConfig,
        config: TokenizerConfig,
        given: Path | None,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.duplicates, self.split = inputs, duplicates, split
        self.revised = revised
        self.config, self.given, self.folder = config, given, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the tokenizer; yields nothing."""
        if self.given is None:
            sample = Sample(
                self.inputs,
                self.duplicates,
                self.revised,
                self.split,
                self.config.train_characters,
            )
            content = train(sample.texts(), self.config).to_str(pretty=True).encode("utf-8")
            write_json_atomic(self.folder / TRAINED_ON, sample.facts)
        else:
            content = self.given.read_bytes()
        with atomic_write(self.folder / TOKENIZER) as file:
            file.write(content)
        yield from ()


class Sample:
    """The training documents that a tokenizer is trained on: all, or a share of every source.

    A document is in the sample by its content hash, so neither order nor files matter.

    Args:
        inputs: (source, documents file) in reading order.
        duplicates: what the deduplication stage decided.
        revised: folders of the stages that revised them, in order.
        split: how validation documents are chosen.
        most: about so many characters at most.

    Attributes:
        facts: JSON, complete once all texts were taken: the share, and what was taken.
    """

    def __init__(
        self,
        inputs: list[tuple[str, Path]],
        duplicates: Path,
        revised: Sequence[Path],
        split: SplitConfig,
        most: int,
    ) -> None:
        self._inputs, self._duplicates, self._split = inputs, duplicates, split
        self._revised = revised
        there = pl.scan_parquet([path for _, path in inputs]).select(pl.col("characters").sum())
        share = min(1.0, most / max(1, there.collect().item()))
        self._limit = int(share * 2**64)
        self.facts: dict[str, Any] = {"share": share, "documents": 0, "characters": 0}

    def texts(self) -> Iterator[list[str]]:
        """The documents' texts in reading order, some at a time."""
        for rank, (_, path) in enumerate(tracked(self._inputs, len(self._inputs))):
            decisions = Decisions(task_file(self._duplicates, rank), self._split)
            revisions = Revisions(self._revised, rank)
            yield from self._of_file(path, decisions, revisions)

    def _of_file(
        self, path: Path, decisions: Decisions, revisions: Revisions
    ) -> Iterator[list[str]]:
        wanted = Fate("pack", "train")
        with pq.ParquetFile(path) as file:
            columns = ["doc_id", "content_hash", "text"]
            for stored in file.iter_batches(BATCH_DOCUMENTS, columns=columns):
                batch = revisions.apply(stored)
                pairs = zip(*(batch[name].to_pylist() for name in columns[:2]), strict=True)
                texts = [
                    batch["text"][row].as_py()
                    for row, (key, digest) in enumerate(pairs)
                    if self._is_in(digest) and decisions.fate(key, digest) == wanted
                ]
                self.facts["documents"] += len(texts)
                self.facts["characters"] += sum(map(len, texts))
                yield texts

    def _is_in(self, content_hash: bytes) -> bool:
        return int.from_bytes(content_hash[8:16], "little") < self._limit


def train(batches: Iterator[list[str]], config: TokenizerConfig) -> Tokenizer:
    """Train a byte-level BPE; the same texts give the same tokenizer, whatever the threads.

    All 256 bytes are in the vocabulary, so any text can be encoded, and EOS has id 0.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[t for t in (config.eos_token, config.bos_token) if t is not None],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(batches, trainer)
    return tokenizer


class DocumentEnds(NamedTuple):
    """The tokens that stand at the ends of every document.

    Attributes:
        bos_id: begins it; None where nothing does.
        eos_id: ends it.
        dtype: of the dataset's tokens: little-endian uint16 or uint32.
    """

    bos_id: int | None
    eos_id: int
    dtype: np.dtype[np.uint16] | np.dtype[np.uint32]

    @property
    def per_document(self) -> int:
        """How many tokens they add to a document."""
        return 1 if self.bos_id is None else 2

    def put_around(self, encoded: Encoded, kept: NDArray[np.bool_]) -> Tokens:
        """The tokens of the kept documents, one after the other, each between its ends.

        Raises:
            BuildError: an id that the dtype cannot hold.
        """
        most, limit = int(encoded.ids.max(initial=0)), int(np.iinfo(self.dtype).max)
        if most > limit:
            raise BuildError(f"token id {most} does not fit {self.dtype}: a wrong tokenizer.json")
        sizes = np.diff(encoded.offsets)
        stops = np.cumsum(sizes + self.per_document)
        out = np.empty(int(sizes.sum()) + len(sizes) * self.per_document, self.dtype)
        is_text = np.ones(len(out), np.bool_)
        out[stops - 1], is_text[stops - 1] = self.eos_id, False
        if self.bos_id is not None:
            starts = stops - sizes - 2
            out[starts], is_text[starts] = self.bos_id, False
        out[is_text] = encoded.ids
        return out if kept.all() else out[np.repeat(kept, sizes + self.per_document)]


@lru_cache(2)
def document_ends(path: Path, config: TokenizerConfig) -> DocumentEnds:
    """What the tokenizer and its configuration say of the ends of documents.

    Raises:
        BuildError: the tokenizer does not know the tokens.
    """
    ids = vocabulary(path)  # from the file: `tokenizers` would take three times as long
    bos_id = None
    if config.bos_token is not None:
        bos_id = _token_id(ids, path, config.bos_token, "bos_token")
    eos_id = _token_id(ids, path, config.eos_token, "eos_token")
    return DocumentEnds(bos_id, eos_id, token_dtype(num_ids(ids)))


def _token_id(ids: dict[str, int], path: Path, token: str, key: str) -> int:
    if token not in ids:
        raise BuildError(f"{path} has no token '{token}'; set `tokenizer.{key}` to one it has")
    return ids[token]


def recount(config: TokenizerConfig, directory: Path) -> dict[str, Any]:
    """What the manifest says about the tokenizer in a finished stage.

    Raises:
        BuildError: a given one is broken, or does not know the tokens.
    """
    path, trained_on = directory / TOKENIZER, directory / TRAINED_ON
    load_tokenizer(path, BuildError)  # says what is wrong with a given one
    return {
        "blake3": blake3_file(path),
        "vocab_size": num_ids(vocabulary(path)),
        "eos_id": document_ends(path, config).eos_id,
        "trained_on": json.loads(trained_on.read_text()) if trained_on.exists() else None,
    }
