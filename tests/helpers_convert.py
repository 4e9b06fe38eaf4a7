"""Datasets for the tests of conversion: many shards, an empty document, narrow and wide tokens."""

from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from shards.convert import chosen_parts, export_dataset
from shards.convert_files import Output
from shards.convert_import import Imported, Wanted, import_dataset
from shards.hashing import blake3_file
from shards.manifest import Manifest, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.reader import Dataset
from shards.writer import SplitWriter, token_dtype
from tests.helpers import EOS, byte_tokenizer, document, make_dataset

TEXTS = ["first text", "zweiter Text, länger", "third", "", "the fifth text\nhas two lines"]
SHARD_TOKENS = 24
WIDE_EOS = 70_000


def narrow_dataset(directory: Path) -> Dataset:
    """Two sources, uint16: `a` with four shards of train and one of val, `b` with one."""
    sources = {"a": TEXTS, "b": ["only one"]}
    return make_dataset(directory, sources, {"a": ["held out"]}, SHARD_TOKENS)


@cache
def wide_tokenizer() -> Tokenizer:
    """One token a byte with ids from 69,000 on, EOS 70,000: nothing fits in uint16."""
    letters = sorted(ByteLevel.alphabet())
    vocab = {f"<unused {i}>": i for i in range(WIDE_EOS)}
    for place, letter in enumerate(letters):
        del vocab[f"<unused {69_000 + place}>"]
        vocab[letter] = 69_000 + place
    tokenizer = Tokenizer(models.BPE(vocab=vocab | {EOS: WIDE_EOS}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    return tokenizer


def wide_dataset(directory: Path) -> Dataset:
    """One source, uint32, four shards."""
    tokenizer = wide_tokenizer()
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    dtype = token_dtype(tokenizer.get_vocab_size())
    writer = SplitWriter(directory, "a", "train", dtype, WIDE_EOS, SHARD_TOKENS)
    for row, text in enumerate(TEXTS):
        ids = np.array([*tokenizer.encode(text).ids, WIDE_EOS], dtype=np.uint32)
        writer.add(document(f"a-{row}", text, row, f"https://example.org/{row}"), ids)
    seal(directory, _manifest(directory, tokenizer, writer.close()))
    return Dataset.open(directory)


def _manifest(directory: Path, tokenizer: Tokenizer, facts: SplitFacts) -> Manifest:
    source = SourceFacts(
        licence="CC0-1.0", pin={}, profile="none", funnel=(), splits={"train": facts}
    )
    return Manifest(
        name=directory.name,
        config={},
        tokenizer=TokenizerFacts(
            blake3=blake3_file(directory / "tokenizer.json"),
            vocab_size=tokenizer.get_vocab_size(),
            eos_id=WIDE_EOS,
            eos_token=EOS,
            dtype="uint32",
            encoder="tokenizers",
            encoder_check={},
        ),
        sources={"a": source},
        dedup={},
        versions={},
    )


def export(dataset: Dataset, destination: Path, name: str) -> Output:
    """Convert all of a dataset."""
    return export_dataset(chosen_parts(dataset, None, None), destination, name)


def bring(root: Path, destination: Path, name: str, wanted: Wanted | None = None) -> Imported:
    """Convert files of others, with shards as small as the datasets' above."""
    wanted = (wanted or Wanted())._replace(shard_tokens=SHARD_TOKENS)
    return import_dataset(root, destination, name, wanted)


def save_tokenizer(directory: Path) -> None:
    """Put the byte tokenizer where conversion looks for it."""
    directory.mkdir(parents=True, exist_ok=True)
    byte_tokenizer().save(str(directory / "tokenizer.json"))


def ids_of(text: str) -> list[int]:
    """The text's tokens, without EOS."""
    return byte_tokenizer().encode(text).ids


def texts_of(dataset: Dataset, source: str, split: str = "train") -> list[str]:
    """The decoded documents of a split."""
    stream = dataset.stream(source, split)
    spans = stream.documents().select("token_start", "token_count").iter_rows()
    tokens = [stream.tokens(start, start + count - 1).tolist() for start, count in spans]
    return dataset.tokenizer().decode_batch(tokens)
