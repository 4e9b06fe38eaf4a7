"""The last stage: the tokens of kept documents, in reading order, into the dataset's shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.build import TokenizerConfig
from pipeline.bpe import document_ends
from pipeline.decisions import SPLITS
from pipeline.documents import task_file
from pipeline.errors import BuildError
from pipeline.tokenizing import tokens_file
from shards.atomic import write_json_atomic
from shards.manifest import SplitFacts
from shards.writer import DocumentRow, SplitWriter, Tokens


class PackSource(PipelineStep):
    """Packs one source a task: its splits' shards, and their facts in `<source>.json`.

    Args:
        ranks: for every source, in the order of the tasks, the encoding tasks that hold it.
        encoded: the encoding stage's folder.
        duplicates: what the deduplication stage decided.
        tokenizer: the tokenizer.json.
        config: what stands at the ends of documents.
        shard_tokens: most tokens in a shard.
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
        shard_tokens: int,
        dataset: Path,
        folder: Path,
    ) -> None:
        super().__init__()
        self.ranks, self.encoded, self.duplicates = ranks, encoded, duplicates
        self.tokenizer, self.config, self.shard_tokens = tokenizer, config, shard_tokens
        self.dataset, self.folder = dataset, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the shards of source number `rank`; yields nothing."""
        source = list(self.ranks)[rank]
        ends = document_ends(self.tokenizer, self.config)
        writers = {
            split: SplitWriter(
                self.dataset, source, split, ends.dtype, ends.eos_id, self.shard_tokens
            )
            for split in SPLITS
        }
        folded = _folded(self.duplicates, source)
        for task in self.ranks[source]:
            for split, row, tokens in _packed(self.encoded, task, ends.dtype, folded):
                writers[split].add(row, tokens)
        facts = {split: writer.close().model_dump() for split, writer in writers.items()}
        write_json_atomic(self.folder / f"{source}.json", facts)
        yield from ()


def _folded(duplicates: Path, source: str) -> dict[str, list[str]]:
    """Ids of the dropped documents by the kept one of this source that they repeat."""
    rows = pl.scan_parquet(duplicates).filter(pl.col("keeper_source") == source)
    pairs = rows.select("keeper", "doc_id").collect()
    return dict(pairs.group_by("keeper", maintain_order=True).agg("doc_id").iter_rows())


def _packed(
    encoded: Path,
    rank: int,
    dtype: np.dtype[np.uint16] | np.dtype[np.uint32],
    folded: dict[str, list[str]],
) -> Iterator[tuple[str, DocumentRow, Tokens]]:
    """Split, index row and tokens (EOS at the end) of an encoding task's kept documents."""
    tokens: NDArray[Any] = np.fromfile(tokens_file(encoded, rank), dtype)
    rows = pl.read_parquet(task_file(encoded, rank)).filter(pl.col("stage") == "pack")
    if rows["tokens"].sum() != len(tokens):
        raise BuildError(
            f"{tokens_file(encoded, rank)}: {len(tokens)} tokens, its rows count "
            f"{rows['tokens'].sum()}; the file is damaged: delete {encoded} and build again"
        )
    start = 0
    for row in rows.iter_rows(named=True):
        stop = start + row["tokens"]
        facts = DocumentRow(
            doc_id=row["doc_id"],
            char_count=row["characters"],
            byte_count=row["bytes"],
            content_hash=row["content_hash"],
            origin_file=row["origin_file"],
            origin_row=row["origin_row"],
            url=row["url"],
            duplicates=folded.get(row["doc_id"], []),
            scores={},
        )
        yield row["reason"], facts, tokens[start:stop]
        start = stop


def read_facts(path: Path) -> dict[str, SplitFacts]:
    """The splits of a source that hold any document."""
    values = json.loads(path.read_text(encoding="utf-8"))
    splits = {name: SplitFacts.model_validate(facts) for name, facts in values.items()}
    return {name: facts for name, facts in splits.items() if facts.documents}
