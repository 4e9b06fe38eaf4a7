"""The last stage: the tokens of kept documents, in stored or shuffled order, into shards."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.build import ShardsConfig, TokenizerConfig
from pipeline.bpe import document_ends, load_tokenizer
from pipeline.budget import Budget
from pipeline.decisions import SPLITS
from pipeline.documents import task_file
from pipeline.errors import BuildError
from pipeline.task_report import tracked
from pipeline.tokenizing import tokens_file
from shards.atomic import write_json_atomic
from shards.index import SCORE
from shards.manifest import Dropped, SplitFacts
from shards.writer import SplitWriter, Tokens

_BATCH_DOCUMENTS = 8192
_BUCKET_TOKENS = 1 << 26
_NAMES = {"characters": "char_count", "bytes": "byte_count", "tokens": "token_count"}

Batch = tuple[pl.DataFrame, Tokens]
"""Documents of both splits, columns as in the index and `split`; and their tokens."""


class PackSource(PipelineStep):
    """Packs one source a task: its splits' shards, and their facts in `<source>.json`.

    Args:
        ranks: for every source, in the order of the tasks, the encoding tasks that hold it.
        encoded: the encoding stage's folder.
        duplicates: what the deduplication stage decided.
        tokenizer: the tokenizer.json.
        config: what stands at the ends of documents.
        shards: how large shards are, which sources are shuffled or have a budget.
        dataset: directory that gets the shards.
        folder: where the facts are written.
    """

    type = "🔢 - TOKENIZER"
    name = "pack"

    def __init__(
        self,
        ranks: dict[str, range],
        encoded: Path,
        duplicates: Path,
        tokenizer: Path,
        config: TokenizerConfig,
        shards: ShardsConfig,
        dataset: Path,
        folder: Path,
    ) -> None:
        super().__init__()
        self.ranks, self.encoded, self.duplicates = ranks, encoded, duplicates
        self.tokenizer, self.config, self.shards = tokenizer, config, shards
        self.dataset, self.folder = dataset, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the shards of source number `rank`; yields nothing."""
        source = list(self.ranks)[rank]
        ends = document_ends(self.tokenizer, self.config)
        new_writer = partial(
            SplitWriter,
            directory=self.dataset,
            source=source,
            dtype=ends.dtype,
            eos_id=ends.eos_id,
            shard_tokens=self.shards.shard_tokens,
        )
        writers = {split: new_writer(split=split) for split in SPLITS}
        budget = self._budget(source)
        packed = self._batches(source, ends.dtype)
        for rows, tokens in tracked(packed, self._tokens(source, ends.dtype), lambda b: len(b[1])):
            _write(writers, *(budget.take(rows, tokens) if budget else (rows, tokens)))
        if budget:
            budget.check(source)
        splits = {split: writer.close().model_dump() for split, writer in writers.items()}
        dropped = {k: v.model_dump() for k, v in budget.dropped.items()} if budget else None
        write_json_atomic(self.folder / f"{source}.json", {"splits": splits, "dropped": dropped})
        yield from ()

    def _tokens(self, source: str, dtype: np.dtype[Any]) -> int:
        files = (tokens_file(self.encoded, rank) for rank in self.ranks[source])
        return sum(file.stat().st_size for file in files) // dtype.itemsize

    def _budget(self, source: str) -> Budget | None:
        most = self.shards.max_tokens.get(source)
        return None if most is None else Budget(most, load_tokenizer(self.tokenizer))

    def _batches(self, source: str, dtype: np.dtype[Any]) -> Iterator[Batch]:
        # One after the other where the order allows it: what is mapped counts as memory in use.
        tasks = (EncodedTask(self.encoded, rank, dtype) for rank in self.ranks[source])
        folded = _folded(self.duplicates, source)
        seed = self.shards.shuffle_seeds.get(source)
        batches = _in_order(tasks) if seed is None else _shuffled([*tasks], seed)
        for rows, tokens in batches:
            yield (
                rows.join(folded, "doc_id", "left", maintain_order="left").with_columns(
                    pl.col("duplicates").fill_null([]), scores=pl.lit([], pl.List(SCORE))
                ),
                tokens,
            )


class EncodedTask:
    """What one task of the encoding stage wrote of the kept documents."""

    def __init__(self, encoded: Path, rank: int, dtype: np.dtype[Any]) -> None:
        self._rows, path = task_file(encoded, rank), tokens_file(encoded, rank)
        size = path.stat().st_size // dtype.itemsize
        self.tokens: Tokens = (
            np.asarray(np.memmap(path, dtype, "r")) if size else np.empty(0, dtype)
        )
        counted = self.rows(["tokens"])["token_count"].sum()
        if counted != size:
            raise BuildError(
                f"{path}: {size} tokens, its rows count {counted}; the file is damaged: "
                f"delete {encoded} and build again"
            )

    def rows(self, columns: list[str] | None = None) -> pl.DataFrame:
        """Documents in stored order: columns as in the index, `split`, and `start` in the file."""
        kept = pl.scan_parquet(self._rows).filter(pl.col("stage") == "pack").drop("stage")
        chosen = kept if columns is None else kept.select(columns)
        frame = chosen.rename({**_NAMES, "reason": "split"}, strict=False).collect()
        return frame.with_columns(start=pl.col("token_count").cum_sum() - pl.col("token_count"))


def _in_order(tasks: Iterable[EncodedTask]) -> Iterator[Batch]:
    for task in tasks:
        for rows in task.rows().iter_slices(_BATCH_DOCUMENTS):
            first, last = rows["start"][0], rows["start"][-1] + rows["token_count"][-1]
            yield rows.drop("start"), task.tokens[first:last]


def _shuffled(tasks: list[EncodedTask], seed: int) -> Iterator[Batch]:
    """All documents in the order of a keyed hash of their text.

    One bucket of the hash's range is in memory at a time, each collected from all tasks.
    """
    total = sum(len(task.tokens) for task in tasks)
    num_buckets = -(-total // _BUCKET_TOKENS)
    for bucket in range(num_buckets):
        parts = [_bucket(task, seed, bucket, num_buckets) for task in tasks]
        rows = pl.concat([frame.with_columns(task=i) for i, frame in enumerate(parts)])
        rows = rows.sort("key", "task", "start")
        places = zip(rows["task"], rows["start"], rows["token_count"], strict=True)
        tokens = [tasks[task].tokens[start : start + count] for task, start, count in places]
        if tokens:
            yield rows.drop("key", "task", "start"), np.concatenate(tokens)


def _bucket(task: EncodedTask, seed: int, bucket: int, num_buckets: int) -> pl.DataFrame:
    rows = task.rows()
    keys = shuffle_keys(rows["content_hash"].to_list(), seed)
    width = np.uint64(2**64 // num_buckets + 1) if num_buckets > 1 else None
    here = np.full(len(keys), True) if width is None else keys // width == bucket
    return rows.with_columns(key=pl.Series(keys)).filter(pl.Series(here))


def shuffle_keys(content_hashes: list[bytes], seed: int) -> NDArray[np.uint64]:
    """The numbers that shuffled documents are sorted by: uint64 [num_documents]."""
    halves = np.frombuffer(b"".join(content_hashes), "<u8").reshape(-1, 2)
    keys = halves[:, 0] ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    out: NDArray[np.uint64] = keys ^ (keys >> np.uint64(31))
    return out


def _write(writers: dict[str, SplitWriter], rows: pl.DataFrame, tokens: Tokens) -> None:
    counts = rows["token_count"].to_numpy()
    for split, writer in writers.items():
        chosen = (rows["split"] == split).to_numpy()
        if chosen.any():
            part = tokens if chosen.all() else tokens[np.repeat(chosen, counts)]
            writer.add_many(rows.filter(pl.Series(chosen)).drop("split"), part)


def _folded(duplicates: Path, source: str) -> pl.DataFrame:
    """`duplicates`: ids of the dropped documents, by the kept one of this source they repeat."""
    rows = pl.scan_parquet(duplicates).filter(pl.col("keeper_source") == source)
    groups = rows.group_by("keeper", maintain_order=True).agg(duplicates=pl.col("doc_id"))
    return groups.select(doc_id="keeper", duplicates="duplicates").collect()


class Packed(NamedTuple):
    """What became of a source in the last stage.

    Attributes:
        splits: those that hold any document.
        dropped: by its budget; None where it has none.
    """

    splits: dict[str, SplitFacts]
    dropped: dict[str, Dropped] | None


def read_packed(path: Path) -> Packed:
    """What `PackSource` wrote about a source."""
    values = json.loads(path.read_text(encoding="utf-8"))
    splits = {name: SplitFacts.model_validate(facts) for name, facts in values["splits"].items()}
    dropped = values["dropped"]
    return Packed(
        {name: facts for name, facts in splits.items() if facts.documents},
        dropped and {name: Dropped.model_validate(facts) for name, facts in dropped.items()},
    )
