"""Small real datasets for tests: a byte-level tokenizer, documents, shards, a manifest."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from shards.hashing import blake3_file, content_hash
from shards.index import DocumentRow
from shards.manifest import Manifest, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.reader import Dataset
from shards.writer import SplitWriter

EOS = "<|endoftext|>"


def byte_tokenizer() -> Tokenizer:
    """One token a byte, and EOS as id 0: nothing to train, exact to decode."""
    vocab = {EOS: 0} | {c: i + 1 for i, c in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    return tokenizer


def document(doc_id: str, text: str, row: int = 0, url: str | None = None) -> DocumentRow:
    """The index row of a text."""
    size = len(text.encode("utf-8"))
    return DocumentRow(doc_id, len(text), size, content_hash(text), "made.txt", row, url, [], {})


def make_dataset(
    directory: Path,
    sources: dict[str, list[str]],
    val: dict[str, list[str]] | None = None,
    shard_tokens: int = 1 << 20,
) -> Dataset:
    """Write a dataset of the given texts: source -> texts of its train (and val) split."""
    tokenizer = byte_tokenizer()
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    facts = {}
    for name, texts in sources.items():
        parts = {"train": texts} | ({"val": val[name]} if val and name in val else {})
        splits = {s: _write(directory, name, s, t, shard_tokens) for s, t in parts.items()}
        facts[name] = SourceFacts(
            licence="CC0-1.0", pin={"made": "by a test"}, profile="none", funnel=(), splits=splits
        )
    manifest = Manifest(
        name=directory.name,
        config={},
        tokenizer=TokenizerFacts(
            blake3=blake3_file(directory / "tokenizer.json"),
            vocab_size=tokenizer.get_vocab_size(),
            eos_id=0,
            eos_token=EOS,
            dtype="uint16",
            encoder="tokenizers",
            encoder_check={},
        ),
        sources=facts,
        dedup={},
        versions={},
    )
    seal(directory, manifest)
    return Dataset.open(directory)


def _write(
    directory: Path, source: str, split: str, texts: list[str], shard_tokens: int
) -> SplitFacts:
    tokenizer = byte_tokenizer()
    writer = SplitWriter(directory, source, split, np.dtype("<u2"), 0, shard_tokens)
    for row, text in enumerate(texts):
        ids = np.array([*tokenizer.encode(text).ids, 0], dtype=np.uint16)
        writer.add(document(f"{source}-{split}-{row}", text, row), ids)
    return writer.close()
