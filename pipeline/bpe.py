"""The tokenizer of a dataset: byte-level BPE trained on its train split, or a file as given."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from configs.build import SplitConfig, TokenizerConfig
from pipeline.decisions import Decisions, Fate
from pipeline.errors import BuildError
from shards.atomic import atomic_write

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
        special_tokens=[config.eos_token],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(batches, trainer)
    return tokenizer


def load_tokenizer(path: Path, eos_token: str) -> tuple[Tokenizer, int]:
    """A tokenizer and the id of its end-of-document token.

    Raises:
        BuildError: the file is no tokenizer.json, or does not know the token.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises plain Exception
        raise BuildError(f"{path}: not a tokenizer.json that `tokenizers` reads: {error}") from None
    eos_id = tokenizer.token_to_id(eos_token)
    if eos_id is None:
        raise BuildError(
            f"{path} has no token '{eos_token}'; set `tokenizer.eos_token` to one it has"
        )
    return tokenizer, eos_id
