"""The last stage: the tokens of kept documents, in stored or shuffled order, into shards."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.build import ShardsConfig, TokenizerConfig
from pipeline.bpe import document_ends
from pipeline.budget import Cut
from pipeline.encoded import EncodedSource
from pipeline.layout import ShardPlan, layout_file, read_layout
from pipeline.loss_masks import LossMasks
from pipeline.task_report import report_share
from shards.atomic import write_json_atomic
from shards.index import SCORE
from shards.loss_mask import Spans
from shards.manifest import Dropped, MaskFacts, SplitFacts
from shards.shard_files import (
    Facts,
    Tokens,
    check_documents,
    shard_facts,
    write_documents,
    write_mask,
    write_tokens,
)

_BATCH_DOCUMENTS = 8192
_TOKEN_COLUMNS = ["doc_id", "bytes"]

Batch = tuple[pl.DataFrame, Tokens]
"""Documents, columns as in the index; and their tokens."""
Part = Literal["tokens", "documents"]
PARTS: tuple[Part, ...] = ("tokens", "documents")
"""What of a shard is written: its tokens and what masks them, or its index and table of ids."""


class PackTask(NamedTuple):
    """What one task writes: a part of every `step`-th shard of a source, from `first` on."""

    source: str
    first: int
    step: int
    part: Part

    def plans(self, layout: Path) -> list[ShardPlan]:
        """The shards, as the layout stage has them."""
        return read_layout(layout_file(layout, self.source)).shards[self.first :: self.step]


class PackShards(PipelineStep):
    """Writes the shards of the dataset, and the facts of each part in a file.

    Args:
        tasks: what each task writes.
        ranks: for every source the encoding tasks that hold it.
        encoded: the encoding stage's folder.
        layout: what the layout stage decided.
        duplicates: what the deduplication stage decided.
        masks: folder of the decontamination stage, where its places are to be masked.
        tokenizer: the tokenizer.json.
        config: what stands at the ends of documents.
        shards: how large shards are, which sources are shuffled.
        dataset: directory that gets the shards.
        folder: where the facts are written.
    """

    type = "🔢 - TOKENIZER"
    name = "pack"

    def __init__(
        self,
        tasks: list[PackTask],
        ranks: dict[str, range],
        encoded: Path,
        layout: Path,
        duplicates: Path,
        masks: Path | None,
        tokenizer: Path,
        config: TokenizerConfig,
        shards: ShardsConfig,
        dataset: Path,
        folder: Path,
    ) -> None:
        super().__init__()
        self.tasks, self.ranks, self.encoded = tasks, ranks, encoded
        self.layout, self.duplicates, self.tokenizer = layout, duplicates, tokenizer
        self.masks, self.config, self.shards = masks, config, shards
        self.dataset, self.folder = dataset, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write what task `rank` has to; yields nothing."""
        task = self.tasks[rank]
        writer = _Writer(self, task)
        write = {"tokens": writer.tokens, "documents": writer.documents}[task.part]
        for plan in task.plans(self.layout):
            facts = write(plan)
            write_json_atomic(_facts_file(self.folder, task.source, plan, task.part), facts)
        yield from ()


class _Writer:
    """Writes either part of the shards of one source."""

    def __init__(self, pack: PackShards, task: PackTask) -> None:
        self._pack, self._source = pack, task.source
        self._done, self._total = 0, sum(plan.tokens for plan in task.plans(pack.layout))
        self._ends = document_ends(pack.tokenizer, pack.config)
        seed = pack.shards.shuffle_seeds.get(task.source)
        self._encoded = EncodedSource(pack.encoded, pack.ranks[task.source], self._ends.dtype, seed)

    @cached_property
    def _masks(self) -> LossMasks:
        pack, source = self._pack, self._source
        return LossMasks(pack.masks, pack.ranks[source], pack.tokenizer, self._ends)

    def tokens(self, plan: ShardPlan) -> Facts:
        """Write the tokens of a shard, and which of them give no loss."""
        name, masked = self._name(plan), list[Spans]()
        facts = write_tokens(self._pack.dataset, name, self._checked(plan, masked))
        assert facts["tokens"] == plan.tokens, plan
        masks = write_mask(self._pack.dataset, name, masked)
        return facts | {"masked": masks and masks.model_dump()}

    def documents(self, plan: ShardPlan) -> Facts:
        """Write the document index of a shard."""
        rows = self._encoded.between(plan.split, plan.first, plan.stop)
        if plan.cut:
            rows = pl.concat([rows[:-1], plan.cut.row_of(rows[-1])])
        rows = _with_folded(rows, self._pack.duplicates, self._source)
        sums = {"characters": "char_count", "bytes_utf8": "byte_count"}
        facts = {name: int(rows[column].sum()) for name, column in sums.items()}
        self._report(plan.tokens)
        return facts | write_documents(self._pack.dataset, self._name(plan), rows)

    def _report(self, tokens: int) -> None:
        self._done += tokens
        report_share(self._done / self._total)

    def _name(self, plan: ShardPlan) -> str:
        return f"{self._source}/{plan.split}/{plan.number:05d}"

    def _checked(self, plan: ShardPlan, masked: list[Spans]) -> Iterator[Tokens]:
        """The tokens of a shard, a batch at a time; the spans without loss go to `masked`."""
        written, ends = 0, self._ends
        for rows, tokens in self._batches(plan):
            check_documents(self._name(plan), rows, tokens, ends.eos_id, ends.dtype)
            masked.append(self._masks.spans(rows, tokens) + written)
            written += len(tokens)
            self._report(len(tokens))
            yield tokens

    def _batches(self, plan: ShardPlan) -> Iterator[Batch]:
        rows = self._encoded.between(plan.split, plan.first, plan.stop, _TOKEN_COLUMNS)
        tokens = self._encoded.tokens(rows, _BATCH_DOCUMENTS)
        batches = zip(rows.iter_slices(_BATCH_DOCUMENTS), tokens, strict=True)
        last = (len(rows) - 1) // _BATCH_DOCUMENTS
        for number, batch in enumerate(batches):
            yield _shortened(*batch, plan.cut) if plan.cut and number == last else batch


def _shortened(rows: pl.DataFrame, tokens: Tokens, cut: Cut) -> Batch:
    """The batch with its last document cut to what the budget leaves of it."""
    end = len(tokens) - int(rows["token_count"][-1])
    kept = cut.tokens_of(tokens[end:])
    last = rows[-1].with_columns(
        token_count=pl.lit(cut.tokens, pl.Int64), byte_count=pl.lit(cut.bytes, pl.Int64)
    )
    return pl.concat([rows[:-1], last]), np.concatenate([tokens[:end], kept])


def _with_folded(rows: pl.DataFrame, duplicates: Path, source: str) -> pl.DataFrame:
    """Documents with the ids of those dropped for them, in the order of the decisions' files."""
    ids = rows.lazy().select(keeper="doc_id")
    found = (
        pl.scan_parquet(sorted(duplicates.glob("*.parquet")))
        .filter(pl.col("keeper_source") == source)
        .select("keeper", "doc_id")
        .join(ids, on="keeper", how="semi", maintain_order="left")
        .group_by("keeper", maintain_order=True)
    )
    folded = found.agg(duplicates=pl.col("doc_id")).rename({"keeper": "doc_id"}).collect()
    return rows.join(folded, "doc_id", "left", maintain_order="left").with_columns(
        pl.col("duplicates").fill_null([]), scores=pl.lit([], pl.List(SCORE))
    )


def _facts_file(folder: Path, source: str, plan: ShardPlan, part: Part) -> Path:
    return folder / source / f"{plan.split}-{plan.number:05d}-{part}.json"


class Packed(NamedTuple):
    """What became of a source in the last stage.

    Attributes:
        splits: those that hold any document.
        dropped: by its budget; None where it has none.
    """

    splits: dict[str, SplitFacts]
    dropped: dict[str, Dropped] | None


def read_packed(layout: Path, folder: Path, source: str) -> Packed:
    """What the layout stage and `PackShards` wrote about a source."""
    shards, dropped = read_layout(layout_file(layout, source))
    parts: dict[str, list[SplitFacts]] = {}
    for plan in shards:
        parts.setdefault(plan.split, []).append(_facts(folder, source, plan))
    return Packed({split: _together(found) for split, found in parts.items()}, dropped)


def _facts(folder: Path, source: str, plan: ShardPlan) -> SplitFacts:
    """What both parts of a shard hold."""
    files = (_facts_file(folder, source, plan, part) for part in PARTS)
    tokens, documents = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    masked = tokens.pop("masked")
    sums = {name: documents.pop(name) for name in ("characters", "bytes_utf8")}
    shard = shard_facts(tokens, masked and MaskFacts(**masked), documents)
    return SplitFacts(tokens=shard.tokens, documents=shard.documents, shards=(shard,), **sums)


def _together(parts: list[SplitFacts]) -> SplitFacts:
    return SplitFacts(
        tokens=sum(part.tokens for part in parts),
        documents=sum(part.documents for part in parts),
        characters=sum(part.characters for part in parts),
        bytes_utf8=sum(part.bytes_utf8 for part in parts),
        shards=tuple(shard for part in parts for shard in part.shards),
    )
