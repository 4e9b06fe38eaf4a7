"""The encoder is chosen by comparing its ids with those of `tokenizers`, on text of every source.

A task looks at one file: at most eight of a source, evenly chosen. So the check is divided between
workers and costs the same whatever the size of the source.
"""

import json
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.build import TokenizerConfig
from pipeline.encoders import BATCH_DOCUMENTS, Encoded, adversarial_texts, encoder_of
from pipeline.task_report import tracked
from shards.atomic import write_json_atomic

ENCODER = "encoder.json"
_FILES, _DOCUMENTS, _CHARACTERS = 8, 1000, 2000
"""A source's sample: so many files, documents of all of them, characters of a document's start."""

_BATCH = 32
"""Texts that are compared at a time; the display moves after each."""

Json = dict[str, Any]


class Sample(NamedTuple):
    """The documents of a file whose content hashes are lowest."""

    source: str
    path: Path
    documents: int


def samples(files: list[tuple[str, Path]]) -> list[Sample]:
    """What is encoded twice, one task each.

    Args:
        files: (source, documents file).
    """
    out = []
    for source in dict.fromkeys(source for source, _ in files):
        paths = [path for name, path in files if name == source]
        parts = min(_FILES, len(paths))
        chosen = [paths[i * len(paths) // parts] for i in range(parts)]
        out += [Sample(source, path, -(-_DOCUMENTS // parts)) for path in chosen]
    return out


class ChooseEncoder(PipelineStep):
    """Encodes a sample a task with both encoders and writes what came of it."""

    type = "🔢 - TOKENIZER"
    name = "encoder"

    def __init__(
        self, samples: list[Sample], tokenizer: Path, config: TokenizerConfig, folder: Path
    ) -> None:
        super().__init__()
        self.samples, self.tokenizer = samples, tokenizer
        self.config, self.folder = config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write `checks/<rank>.json`; yields nothing."""
        check: Json = {"equal": None, "why": "not asked: `encoder: tokenizers`"}
        if self.config.encoder == "auto":
            texts = {self.samples[rank].source: _texts(self.samples[rank])}
            if rank == 0:
                texts["(adversarial)"] = adversarial_texts(self.config.eos_token)
            check = compare(self.tokenizer, texts)
        write_json_atomic(self.folder / "checks" / f"{rank:05d}.json", check)
        yield from ()


def _texts(sample: Sample) -> list[str]:
    columns = ["content_hash", "text"]
    hashes = pl.read_parquet(sample.path, columns=columns[:1])["content_hash"].unique()
    lowest = frozenset(hashes.bottom_k(sample.documents))
    found: dict[bytes, str] = {}
    with pq.ParquetFile(sample.path) as file:
        for batch in file.iter_batches(BATCH_DOCUMENTS, columns=columns):
            for row, digest in enumerate(batch["content_hash"].to_pylist()):
                if digest in lowest:
                    found[digest] = batch["text"][row].as_py()[:_CHARACTERS]
    return [found[digest] for digest in sorted(found)]


def choose(folder: Path) -> Json:
    """Put the checks of all tasks together and write encoder.json: name, version, result."""
    parts = [json.loads(path.read_text()) for path in sorted((folder / "checks").glob("*.json"))]
    first_bad = next((part for part in parts if not part["equal"]), None)
    check = first_bad or parts[0]
    if check["equal"] is not None:
        texts = sum((Counter(part["texts"]) for part in parts), Counter[str]())
        check |= {"texts": dict(texts), "tokens": sum(part["tokens"] for part in parts)}
    name = "tokenizers" if first_bad else "fastokens"
    facts = {"name": name, "encoder": f"{name} {version(name)}", "check": check}
    write_json_atomic(folder / ENCODER, facts)
    return facts


def compare(tokenizer: Path, texts: dict[str, list[str]]) -> Json:
    """Encode texts with both encoders.

    Args:
        tokenizer: the tokenizer.json.
        texts: by the name of their group.

    Returns:
        `equal`, counts, and where they are not equal, the first text that differs.
    """
    facts: Json = {
        "reference": f"tokenizers {version('tokenizers')}",
        "candidate": f"fastokens {version('fastokens')}",
        "texts": {group: len(members) for group, members in texts.items()},
        "tokens": 0,
    }
    try:
        fast = encoder_of("fastokens", tokenizer)
    except Exception as error:  # a native error of any kind means: not for this tokenizer
        return facts | {"equal": False, "why": f"fastokens cannot load it: {error}"}
    reference = encoder_of("tokenizers", tokenizer)
    batches = list(_batches(texts))
    for group, batch in tracked(batches, len(batches)):
        wanted, found = reference.encode(batch), fast.encode(batch)
        facts["tokens"] += len(wanted.ids)
        if (differing := _first_difference(wanted, found)) is not None:
            text = batch[differing]
            return facts | {"equal": False, "why": f"{group}: ids differ for {text[:200]!r}"}
    return facts | {"equal": True}


def _batches(texts: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Some texts at a time, with the name of their group."""
    for group, members in texts.items():
        for start in range(0, len(members), _BATCH):
            yield group, members[start : start + _BATCH]


def _first_difference(wanted: Encoded, found: Encoded) -> int | None:
    for i in range(len(wanted.offsets) - 1):
        left = wanted.ids[wanted.offsets[i] : wanted.offsets[i + 1]]
        right = found.ids[found.offsets[i] : found.offsets[i + 1]]
        if not np.array_equal(left, right):
            return i
    return None
