"""Two stages: choose the encoder by comparing it with `tokenizers`, then encode every document.

Dropped documents and duplicates are encoded too, to be counted: the funnel is in tokens.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from configs.build import SplitConfig, TokenizerConfig
from pipeline.bpe import load_tokenizer
from pipeline.decisions import Decisions, Fate
from pipeline.documents import UNREADABLE, task_file
from pipeline.encoders import BATCH_DOCUMENTS, ENCODERS, Encoder, adversarial_texts, compare
from shards.atomic import atomic_write, write_json_atomic
from shards.writer import token_dtype

ENCODER = "encoder.json"
_SAMPLE_DOCUMENTS = 1000
_COLUMNS = ["doc_id", "characters", "bytes", "content_hash", "origin_file", "origin_row", "url"]
ROWS_SCHEMA = {
    "doc_id": pl.String,
    "characters": pl.Int64,
    "bytes": pl.Int64,
    "content_hash": pl.Binary,
    "origin_file": pl.String,
    "origin_row": pl.Int64,
    "url": pl.String,
    "stage": pl.String,  # where the document ended, see `Fate`
    "reason": pl.String,
    "tokens": pl.Int64,  # EOS included
}


class ChooseEncoder(PipelineStep):
    """The one task of the stage: encode a sample of every source twice and compare the ids.

    The sample is the 1,000 documents of a source whose content hash is lowest, or all of them.
    """

    type = "🔢 - TOKENIZER"
    name = "encoder"

    def __init__(
        self,
        inputs: list[tuple[str, Path]],
        tokenizer: Path,
        config: TokenizerConfig,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.tokenizer, self.config, self.folder = inputs, tokenizer, config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write encoder.json; yields nothing."""
        name, check = "tokenizers", {"equal": None, "why": "not asked: `encoder: tokenizers`"}
        if self.config.encoder == "auto":
            check = compare(self.tokenizer, self._samples())
            name = "fastokens" if check["equal"] else "tokenizers"
        facts = {"name": name, "encoder": f"{name} {version(name)}", "check": check}
        write_json_atomic(self.folder / ENCODER, facts)
        yield from ()

    def _samples(self) -> dict[str, list[str]]:
        samples = {"(adversarial)": adversarial_texts(self.config.eos_token)}
        for source in dict.fromkeys(source for source, _ in self.inputs):
            paths = [path for name, path in self.inputs if name == source]
            frame = pl.scan_parquet(paths).select("content_hash", "text").unique("content_hash")
            lowest = frame.bottom_k(_SAMPLE_DOCUMENTS, by="content_hash").collect()
            samples[source] = lowest.sort("content_hash")["text"].to_list()
        return samples


class EncodeInput(NamedTuple):
    """What one task encodes: the kept and the dropped documents of one file."""

    source: str
    kept: Path
    dropped: Path


class EncodeDocuments(PipelineStep):
    """Kept documents -> token ids in `<rank>.bin`; every document -> a row in `<rank>.parquet`."""

    type = "🔢 - TOKENIZER"
    name = "encode"

    def __init__(
        self,
        inputs: list[EncodeInput],
        duplicates: Path,
        tokenizer: Path,
        encoder: Path,
        split: SplitConfig,
        eos_token: str,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.duplicates, self.split = inputs, duplicates, split
        self.tokenizer, self.encoder, self.eos_token = tokenizer, encoder, eos_token
        self.folder = folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Encode the documents of input `rank`; yields nothing."""
        item = self.inputs[rank]
        tokenizer, eos_id = load_tokenizer(self.tokenizer, self.eos_token)
        dtype = token_dtype(tokenizer.get_vocab_size())
        name = json.loads(self.encoder.read_text(encoding="utf-8"))["name"]
        encoder = ENCODERS[name](self.tokenizer)
        decisions = Decisions(self.duplicates, item.source, self.split)
        rows: list[dict[str, Any]] = []
        with atomic_write(tokens_file(self.folder, rank)) as out:
            for batch in _batches(item.kept):
                fates = [decisions.fate(row["doc_id"], row["content_hash"]) for row in batch]
                for row, fate, ids in zip(batch, fates, _encode(batch, encoder), strict=True):
                    rows.append(_row(row, fate, len(ids)))
                    if fate.stage == "pack":
                        out.write(np.append(ids, eos_id).astype(dtype).data)
        for batch in _batches(item.dropped):
            for row, ids in zip(batch, _encode(batch, encoder), strict=True):
                stage = "read" if row["reason"] in UNREADABLE else "filter"
                rows.append(_row(row, Fate(stage, row["reason"]), len(ids)))
        with atomic_write(task_file(self.folder, rank)) as out:
            pl.DataFrame(rows, schema=ROWS_SCHEMA).write_parquet(out, compression="zstd")
        yield from ()


def tokens_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes the tokens of its kept documents, one after the other."""
    return task_file(folder, rank).with_suffix(".bin")


def _batches(path: Path) -> Any:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_DOCUMENTS, columns=[*_COLUMNS, "text", "reason"]):
            yield batch.to_pylist()


def _encode(batch: list[dict[str, Any]], encoder: Encoder) -> list[NDArray[np.uint32]]:
    """Token ids of each document, without EOS; views of one flat array."""
    encoded = encoder.encode([row["text"] for row in batch])
    return np.split(encoded.ids, encoded.offsets[1:-1])


def _row(row: dict[str, Any], fate: Fate, num_tokens: int) -> dict[str, Any]:
    facts = {name: row[name] for name in _COLUMNS}
    return facts | {"stage": fate.stage, "reason": fate.reason, "tokens": num_tokens + 1}
