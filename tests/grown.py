"""A dataset as large as you like, grown from a small real one, to measure and test look-ups.

Shard 0 begins with the first half of the small one's tokens, every other shard with the second
half; the rest of a shard is copies of them with the token ids exchanged, another way in every
copy: real lengths and frequencies, but sequences of their own. So a passage of the first half
stands in one place, one of the second half in all shards but one. All documents have ids of their
own, and a duplicate ID/copy folded into them. Shards 1 and on are hard links to one file.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shards.hashing import blake3_file
from shards.index import SCHEMA, write_ids, write_index
from shards.manifest import Manifest, ShardFacts, SplitFacts, seal
from shards.reader import Dataset, TokenArray


def grow(
    small: Dataset, source: str, directory: Path, num_shards: int, shard_tokens: int
) -> Dataset:
    """Write the dataset: `num_shards` shards of about `shard_tokens` tokens each."""
    stream = small.stream(source)
    tokens, index = stream.tokens(0, stream.num_tokens), stream.documents().drop("shard")
    middle = int(index["token_start"][len(index) // 2])
    halves = (tokens[:middle], tokens[middle:])
    frames = (index[: len(index) // 2], index[len(index) // 2 :])
    folder = directory / source / "train"
    folder.mkdir(parents=True)
    copies = [max(-(-shard_tokens // len(half)), 1) for half in halves]
    vocab_size = small.manifest.tokenizer.vocab_size
    for number in (0, 1):
        exchanged = _copies(halves[number], copies[number], vocab_size, stream.eos_id, number)
        exchanged.tofile(folder / f"{number:05d}.bin")
    digests = [blake3_file(folder / f"{number:05d}.bin") for number in (0, 1)]
    shards = []
    for number in range(num_shards):
        kind = min(number, 1)
        if number > 1:
            os.link(folder / "00001.bin", folder / f"{number:05d}.bin")
        frame = _index(frames[kind], number, copies[kind])
        shards.append(_shard(directory, f"{source}/train/{number:05d}", frame, digests[kind]))
    (directory / "tokenizer.json").write_bytes((small.path / "tokenizer.json").read_bytes())
    seal(directory, _manifest(small.manifest, source, shards))
    return Dataset.open(directory)


def _copies(
    tokens: TokenArray, count: int, vocab_size: int, eos_id: int, seed: int
) -> npt.NDArray[Any]:
    rng = np.random.default_rng(seed)
    others = np.delete(np.arange(vocab_size), eos_id)
    parts: list[npt.NDArray[Any]] = [tokens]
    for _ in range(count - 1):
        exchange = np.arange(vocab_size)
        exchange[others] = rng.permutation(others)
        parts.append(exchange.astype(tokens.dtype)[tokens])
    return np.concatenate(parts)


def _index(frame: pl.DataFrame, shard: int, copies: int) -> pl.DataFrame:
    parts = []
    for copy in range(copies):
        name = f"/{shard}.{copy}"
        own = pl.col("doc_id") + name
        parts.append(frame.with_columns(own, duplicates=pl.concat_list(own + "/copy")))
    rows = pl.concat(parts)
    starts = rows["token_count"].cum_sum() - rows["token_count"]
    return rows.with_columns(starts.alias("token_start")).select(list(SCHEMA))


def _shard(directory: Path, name: str, frame: pl.DataFrame, digest: str) -> ShardFacts:
    path, index, ids = (
        directory / f"{name}{end}" for end in (".bin", ".docs.parquet", ".docs.ids")
    )
    with index.open("wb") as file:
        write_index(frame, file)
    with ids.open("wb") as file:
        write_ids(frame, file)
    return ShardFacts(
        path=f"{name}.bin",
        tokens=int(frame["token_count"].sum()),
        documents=len(frame),
        bytes=path.stat().st_size,
        blake3=digest,
        index_path=f"{name}.docs.parquet",
        index_bytes=index.stat().st_size,
        index_blake3=blake3_file(index),
        ids_path=f"{name}.docs.ids",
        ids_bytes=ids.stat().st_size,
        ids_blake3=blake3_file(ids),
    )


def _manifest(small: Manifest, source: str, shards: list[ShardFacts]) -> Manifest:
    facts = SplitFacts(
        tokens=sum(shard.tokens for shard in shards),
        documents=sum(shard.documents for shard in shards),
        characters=0,
        bytes_utf8=0,
        shards=tuple(shards),
    )
    grown = small.sources[source].model_copy(update={"splits": {"train": facts}})
    return small.model_copy(update={"name": "grown", "sources": {source: grown}})
