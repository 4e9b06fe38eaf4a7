"""The tokenizer of a dataset: byte-level BPE trained on its train split, or a file as given."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from configs.build import SplitConfig, TokenizerConfig
from pipeline.decisions import Decisions, Fate
from pipeline.encoders import Encoded
from pipeline.errors import BuildError
from shards.atomic import atomic_write
from shards.writer import Tokens, token_dtype

TOKENIZER = "tokenizer.json"


class MakeTokenizer(PipelineStep):
    """The one task of the stage: train (or copy) `tokenizer.json`.

    Args:
        inputs: (source, documents file) in reading order.
        duplicates: what the deduplication stage decided.
        split: how validation documents, which are not trained on, are chosen.
        config: size of the vocabulary, or the file to use.
        folder: where to write.
    """

    type = "🔢 - TOKENIZER"
    name = "train"

    def __init__(
        self,
        inputs: list[tuple[str, Path]],
        duplicates: Path,
        split: SplitConfig,
        config: TokenizerConfig,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.duplicates, self.split = inputs, duplicates, split
        self.config, self.folder = config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the tokenizer; yields nothing."""
        if self.config.file is None:
            content = train(self._texts(), self.config).to_str(pretty=True).encode("utf-8")
        else:
            content = self.config.file.read_bytes()
        with atomic_write(self.folder / TOKENIZER) as file:
            file.write(content)
        yield from ()

    def _texts(self) -> Iterator[list[str]]:
        by_source: dict[str, Decisions] = {}
        for source, path in self.inputs:
            if source not in by_source:
                by_source[source] = Decisions(self.duplicates, source, self.split)
            yield from _train_texts(path, by_source[source])


def _train_texts(path: Path, decisions: Decisions) -> Iterator[list[str]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1000, columns=["doc_id", "text", "content_hash"]):
            rows = zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True)
            wanted = Fate("pack", "train")
            yield [text for key, text, digest in rows if decisions.fate(key, digest) == wanted]


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
        BuildError: the file is no tokenizer.json, or does not know the tokens.
    """
    tokenizer = load_tokenizer(path)
    bos_id = None
    if config.bos_token is not None:
        bos_id = _token_id(tokenizer, path, config.bos_token, "bos_token")
    eos_id = _token_id(tokenizer, path, config.eos_token, "eos_token")
    return DocumentEnds(bos_id, eos_id, token_dtype(num_ids(tokenizer)))


def num_ids(tokenizer: Tokenizer) -> int:
    """Entries of the vocabulary, or one more than the highest id where some are left out."""
    return 1 + max(tokenizer.get_vocab().values())


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file.

    Raises:
        BuildError: the file is no tokenizer.json.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises plain Exception
        raise BuildError(f"{path}: not a tokenizer.json that `tokenizers` reads: {error}") from None


def _token_id(tokenizer: Tokenizer, path: Path, token: str, key: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise BuildError(f"{path} has no token '{token}'; set `tokenizer.{key}` to one it has")
    return int(found)
