"""The last stage: the tokens of kept documents, in stored or shuffled order, into shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
from shards.manifest import Dropped, SplitFacts
from shards.writer import SplitWriter, Tokens

_BATCH_DOCUMENTS = 8192

Batch = tuple[pl.DataFrame, Tokens]
"""Documents, columns as in the index; and their tokens."""


class PackTask(NamedTuple):
    """What one task writes: every `step`-th shard of a source, from number `first` on."""

    source: str
    first: int
    step: int

    def plans(self, layout: Path) -> list[ShardPlan]:
        """The shards, as the layout stage has them."""
        return read_layout(layout_file(layout, self.source)).shards[self.first :: self.step]


class PackShards(PipelineStep):
    """Writes the shards of the dataset, and the facts of each in a file.

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
        """Write the shards of task `rank`; yields nothing."""
        task = self.tasks[rank]
        plans = task.plans(self.layout)
        done, total = 0, sum(plan.tokens for plan in plans)
        ends = document_ends(self.tokenizer, self.config)
        masks = LossMasks(self.masks, self.ranks[task.source], self.tokenizer, ends)
        for plan in plans:
            writer = self._writer(task.source, plan)
            for rows, tokens in self._batches(task.source, plan):
                writer.add_many(rows, tokens, masks.spans(rows, tokens))
                done += len(tokens)
                report_share(done / total)
            facts = writer.close()
            assert [shard.tokens for shard in facts.shards] == [plan.tokens], plan
            path = _facts_file(self.folder, task.source, plan)
            write_json_atomic(path, facts.model_dump(mode="json"))
        yield from ()

    def _writer(self, source: str, plan: ShardPlan) -> SplitWriter:
        ends = document_ends(self.tokenizer, self.config)
        return SplitWriter(
            self.dataset,
            source,
            plan.split,
            ends.dtype,
            ends.eos_id,
            self.shards.shard_tokens,
            first_shard=plan.number,
        )

    def _batches(self, name: str, plan: ShardPlan) -> Iterator[Batch]:
        dtype, seed = (
            document_ends(self.tokenizer, self.config).dtype,
            self.shards.shuffle_seeds.get(name),
        )
        source = EncodedSource(self.encoded, self.ranks[name], dtype, seed)
        stored = source.between(plan.split, plan.first, plan.stop)
        rows = _with_folded(stored, self.duplicates, name).drop("split", "row", "key")
        tokens = source.tokens(rows, _BATCH_DOCUMENTS)
        batches = zip(rows.drop("rank", "start").iter_slices(_BATCH_DOCUMENTS), tokens, strict=True)
        last = (len(rows) - 1) // _BATCH_DOCUMENTS
        for number, batch in enumerate(batches):
            yield _shortened(*batch, plan.cut) if plan.cut and number == last else batch


def _shortened(rows: pl.DataFrame, tokens: Tokens, cut: Cut) -> Batch:
    """The batch with its last document cut to what the budget leaves of it."""
    end = len(tokens) - int(rows["token_count"][-1])
    kept = cut.tokens_of(tokens[end:])
    return pl.concat([rows[:-1], cut.row_of(rows[-1])]), np.concatenate([tokens[:end], kept])


def _with_folded(rows: pl.DataFrame, duplicates: Path, source: str) -> pl.DataFrame:
    """Documents with the ids of those dropped for them; the decisions are read file by file."""
    ids = rows.select(keeper="doc_id")
    found = [
        pl.scan_parquet(path)
        .filter(pl.col("keeper_source") == source)
        .select("keeper", "doc_id")
        .collect()
        .join(ids, on="keeper", how="semi", maintain_order="left")
        for path in sorted(duplicates.glob("*.parquet"))
    ]
    groups = pl.concat(found).group_by("keeper", maintain_order=True)
    folded = groups.agg(duplicates=pl.col("doc_id")).rename({"keeper": "doc_id"})
    return rows.join(folded, "doc_id", "left", maintain_order="left").with_columns(
        pl.col("duplicates").fill_null([]), scores=pl.lit([], pl.List(SCORE))
    )


def _facts_file(folder: Path, source: str, plan: ShardPlan) -> Path:
    return folder / source / f"{plan.split}-{plan.number:05d}.json"


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
        values = json.loads(_facts_file(folder, source, plan).read_text(encoding="utf-8"))
        parts.setdefault(plan.split, []).append(SplitFacts.model_validate(values))
    return Packed({split: _together(found) for split, found in parts.items()}, dropped)


def _together(parts: list[SplitFacts]) -> SplitFacts:
    return SplitFacts(
        tokens=sum(part.tokens for part in parts),
        documents=sum(part.documents for part in parts),
        characters=sum(part.characters for part in parts),
        bytes_utf8=sum(part.bytes_utf8 for part in parts),
        shards=tuple(shard for part in parts for shard in part.shards),
    )
