"""The stage that decides which documents go into which shard, from their counts alone.

With the borders of all shards known, every shard can be written by a task of its own.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.build import ShardsConfig, TokenizerConfig
from pipeline.bpe import document_ends
from pipeline.budget import Budget, Cut
from pipeline.decisions import SPLITS
from pipeline.encoded import EncodedSource, Place
from pipeline.errors import BuildError
from pipeline.task_report import tracked
from shards.atomic import write_json_atomic
from shards.manifest import Dropped
from shards.tokenizer_file import load_tokenizer
from shards.writer import Filled, fitting

_MAX_TASKS = 1000
_TASK_BYTES = 1 << 24


class ShardPlan(NamedTuple):
    """What one shard will hold: the documents of its split from one place up to another."""

    split: str
    number: int
    tokens: int
    first: Place
    stop: Place | None
    """None: to the end of the source."""
    cut: Cut | None
    """What is left of its last document, where the budget ends in it."""


class Layout(NamedTuple):
    """The shards of a source, training first, and what its budget leaves out, if it has one."""

    shards: list[ShardPlan]
    dropped: dict[str, Dropped] | None


class LayOutSources(PipelineStep):
    """Lays out one source a task, into `<source>.json`.

    Args:
        ranks: for every source, in the order of the tasks, the encoding tasks that hold it.
        encoded: the encoding stage's folder.
        tokenizer: the tokenizer.json.
        config: what stands at the ends of documents.
        shards: how large shards are, which sources are shuffled or have a budget.
        folder: where to write.
    """

    type = "🔢 - TOKENIZER"
    name = "layout"

    def __init__(
        self,
        ranks: dict[str, range],
        encoded: Path,
        tokenizer: Path,
        config: TokenizerConfig,
        shards: ShardsConfig,
        folder: Path,
    ) -> None:
        super().__init__()
        self.ranks, self.encoded, self.tokenizer = ranks, encoded, tokenizer
        self.config, self.shards, self.folder = config, shards, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Lay out source number `rank`; yields nothing."""
        name, ranks = list(self.ranks.items())[rank]
        dtype = document_ends(self.tokenizer, self.config).dtype
        source = EncodedSource(self.encoded, ranks, dtype, self.shards.shuffle_seeds.get(name))
        most = self.shards.max_tokens.get(name)
        budget = None if most is None else Budget(most, load_tokenizer(self.tokenizer, BuildError))
        shards = lay_out(source, self.shards.shard_tokens, budget, len(ranks))
        if budget:
            budget.check(name)
        values = {
            "shards": shards,
            "dropped": budget and {k: v.model_dump() for k, v in budget.dropped.items()},
        }
        write_json_atomic(layout_file(self.folder, name), values)
        yield from ()


def lay_out(
    source: EncodedSource, shard_tokens: int, budget: Budget | None, num_tasks: int
) -> list[ShardPlan]:
    """The shards of a source, of every split."""
    borders = {split: _Borders(shard_tokens) for split in SPLITS}
    stop: Place | None = None
    for rows in tracked(source.counts(), num_tasks):
        taken = budget.take(rows, source.document) if budget else rows
        if stop is None and len(taken) < len(rows):
            stop = _place(rows, len(taken))
        for split, found in borders.items():
            found.add(taken.filter(pl.col("split") == split))
    cut = budget.cut if budget else None
    return [
        plan
        for split, found in borders.items()
        for plan in found.plans(split, stop, cut if split == "train" else None)
    ]


class _Borders:
    """Where the shards of one split begin."""

    def __init__(self, shard_tokens: int) -> None:
        self._shard_tokens = shard_tokens
        self._firsts: list[Place] = []
        self._filled: list[Filled] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Go on with documents, which follow those before."""
        ends = rows["token_count"].cum_sum().to_numpy()
        first = 0
        while first < len(rows):
            filled = self._filled[-1] if self._filled else Filled()
            stop = fitting(ends, first, filled, self._shard_tokens)
            if stop == first or not self._firsts:
                self._firsts.append(_place(rows, first))
                self._filled.append(Filled())
                continue
            tokens = int(ends[stop - 1] - (ends[first - 1] if first else 0))
            self._filled[-1] = Filled(filled.tokens + tokens, filled.documents + stop - first)
            first = stop

    def plans(self, split: str, stop: Place | None, cut: Cut | None) -> list[ShardPlan]:
        """The shards, the last of which ends at `stop` with what is left of a cut document."""
        last = len(self._firsts) - 1
        return [
            ShardPlan(
                split,
                number,
                filled.tokens,
                first,
                stop if number == last else self._firsts[number + 1],
                cut if number == last else None,
            )
            for number, (first, filled) in enumerate(zip(self._firsts, self._filled, strict=True))
        ]


def _place(rows: pl.DataFrame, number: int) -> Place:
    return Place(*rows.select("key", "rank", "row").row(number))


def layout_file(folder: Path, source: str) -> Path:
    """Where the layout of a source is."""
    return folder / f"{source}.json"


def read_layout(path: Path) -> Layout:
    """The layout of a source."""
    values = json.loads(path.read_text(encoding="utf-8"))
    dropped = values["dropped"]
    return Layout(
        [_plan(*shard) for shard in values["shards"]],
        dropped and {name: Dropped.model_validate(facts) for name, facts in dropped.items()},
    )


def _plan(split: str, number: int, tokens: int, first: Any, stop: Any, cut: Any) -> ShardPlan:
    until, left = stop and Place(*stop), cut and Cut(*cut)
    return ShardPlan(split, number, tokens, Place(*first), until, left)


def num_tasks(input_bytes: int, shard_tokens: int) -> int:
    """How many tasks write a source's shards: about one a shard, known before any is encoded."""
    return max(1, min(_MAX_TASKS, -(-input_bytes // max(shard_tokens, _TASK_BYTES))))
