"""What a build reads of strangers' texts, and what a run and its card read of earlier commands.

More targets of `tests.fuzz`, in the form of `tests.fuzz_targets`.
"""

import bz2
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from datatrove.pipeline.base import PipelineStep
from safetensors.torch import save_file

from configs.audit import SENSITIVITIES
from configs.model import ModelConfig
from configs.text_sources import JsonlSource, ParquetSource, TextSource, WarcSource
from contamination.audit import run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.write import write_reports
from pipeline.streams import InputFile
from pipeline.tables import ReadJsonl, ReadParquet, check_parquet_columns
from pipeline.text_files import ReadText
from pipeline.warc import ReadWarc
from shards.hashing import blake3_file
from shards.plan_file import load_plan, save_plan
from shards.reader import Dataset
from tests.fuzz_targets import TEXTS, Target, small_plan
from tests.helpers import make_dataset
from tests.test_contamination_schema import BENCHMARK, OTHER
from tests.test_pipeline_sources_text import RIVERS, archive, page
from train import checkpoint
from train.clean_scores import read_audit
from train.model import Decoder
from train.planaudit import audit_warnings
from train.resume import check_state
from train.state import read_moments

_ROWS = [
    {"id": f"d{i}", "text": text, "url": f"http://host/{i}", "score": i / 7, "title": "A title"}
    for i, text in enumerate(TEXTS)
]
_LINES = "\n".join(json.dumps(row) for row in _ROWS).encode()
_COLUMNS = {"text": ("title", "text"), "id": "id", "url": "url", "min_scores": {"score": 0.5}}
_PACKS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress,
}  # fmt: skip


def reader_targets(folder: Path) -> Iterator[Target]:
    """All targets of this module; files are made below `folder`."""
    folder.mkdir()
    yield from _lines_and_texts(folder)
    yield from _tables(folder)
    yield from _archives(folder)
    yield from _checkpoints(folder)
    yield from _results(folder)


def _all_of(step: PipelineStep) -> None:
    """Read every document, as the stage that writes them does."""
    for document in step.run(rank=0, world_size=1):
        document.text.encode("utf-8"), document.id.encode("utf-8")


def _lines_and_texts(folder: Path) -> Iterator[Target]:
    prose = "\n---\n".join(text * 3 for text in TEXTS).encode()
    for suffix, pack in _PACKS.items():
        rows = _file(folder / f"rows.jsonl{suffix}", _jsonl)
        text = _file(folder / f"text.txt{suffix}", _text)
        yield Target(f"built .jsonl{suffix}", [pack(_LINES)], rows)
        yield Target(f"built .txt{suffix}", [pack(prose)], text)
        if suffix:
            yield Target(f"built .jsonl{suffix}, inside", [_LINES], _through(pack, rows))


def _through(pack: Callable[[bytes], bytes], parse: Callable[[bytes], object]) -> Any:
    return lambda data: parse(pack(data))


def _file(path: Path, use: Callable[[Path], object]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> None:
        path.write_bytes(data)
        use(path)

    return parse


def _jsonl(path: Path) -> None:
    spec = JsonlSource(kind="jsonl", licence="x", paths=(str(path),), **_COLUMNS)  # type: ignore[arg-type]
    _all_of(ReadJsonl([InputFile(str(path), "f")], spec))


def _text(path: Path) -> None:
    spec = TextSource(kind="text", licence="x", paths=(str(path),), separator="---")
    _all_of(ReadText([[InputFile(str(path), "f")]], spec))


def _parquet(path: Path) -> None:
    spec = ParquetSource(kind="parquet", licence="x", paths=(str(path),), **_COLUMNS)  # type: ignore[arg-type]
    check_parquet_columns(str(path), spec)
    _all_of(ReadParquet([InputFile(str(path), "f")], spec))


def _warc(path: Path) -> None:
    spec = WarcSource(kind="warc", licence="x", paths=(str(path),), timeout_s=3)
    _all_of(ReadWarc([InputFile(str(path), "f")], spec))


def _tables(folder: Path) -> Iterator[Target]:
    table, parse = pa.Table.from_pylist(_ROWS), _file(folder / "rows.parquet", _parquet)
    for name, options in (
        ("built .parquet", {"compression": "zstd", "row_group_size": 7}),
        ("built .parquet, plain", {"compression": "none", "use_dictionary": False}),
    ):
        out = io.BytesIO()
        pq.write_table(table, out, **options)
        yield Target(name, [out.getvalue()], parse)


def _archives(folder: Path) -> Iterator[Target]:
    html = page(*RIVERS)
    records = [("response", "text/html", html), ("conversion", None, b"A text of a WET file.")]
    for suffix in (".warc", ".warc.gz"):
        path = folder / f"pages{suffix}"
        archive(path, [*records, ("response", None, b"\x89PNG\r\n")])
        yield Target(f"built {suffix}", [path.read_bytes()], _file(path, _warc))


_SHAPE = ModelConfig(
    vocab_size=8, num_layers=1, d_model=4, num_heads=2, num_kv_heads=1, head_dim=2, ffn_dim=4,
    max_seq_len=8,
)  # fmt: skip


def _checkpoints(folder: Path) -> Iterator[Target]:
    """Checkpoints of a stranger, whose checksums fit whatever they say."""
    checkpoint.begin(folder / "run", 5)
    files = checkpoint.temporary_path(folder / "run", 5)
    weights = {name: p.detach() for name, p in Decoder(_SHAPE).named_parameters()}
    save_file(weights, files / checkpoint.MODEL_FILE)
    save_file({f"{name}/exp_avg": w for name, w in weights.items()}, files / _MOMENTS)
    state = {
        "step": 5, "tokens": 40, "skipped_steps": 0, "plan_id": "p", "datasets": {"a": "0" * 32},
        "model": _SHAPE.model_dump(mode="json"), "world_size": 1, "parent": None,
    }  # fmt: skip
    (files / checkpoint.STATE_FILE).write_text(json.dumps(state))
    checkpoint.finish(folder / "run", 5)
    for name in (checkpoint.STATE_FILE, checkpoint.MODEL_FILE, _MOMENTS, checkpoint.COMPLETE_FILE):
        path = checkpoint.checkpoint_path(folder / "run", 5) / name
        parse = _checkpoint(folder / "run", path)
        yield Target(f"checkpoint {name}", [path.read_bytes()], parse)


_MOMENTS = "optimizer_00000.safetensors"


def _checkpoint(run: Path, damaged: Path) -> Callable[[bytes], object]:
    whole, there = damaged.read_bytes(), damaged.parent
    complete = there / checkpoint.COMPLETE_FILE
    sums = complete.read_bytes()

    def parse(data: bytes) -> None:
        damaged.write_bytes(data)
        if damaged != complete:
            found = {p.name: blake3_file(p) for p in there.iterdir() if p != complete}
            complete.write_text(json.dumps({"blake3": found}))
        try:
            checkpoint.load_model(run, 5)
            check_state(there, checkpoint.read_state(there), ["p"])
            read_moments(there)
        finally:
            damaged.write_bytes(whole)
            complete.write_bytes(sums)

    return parse


def _results(folder: Path) -> Iterator[Target]:
    dataset = make_dataset(folder / "data", {"a": [*TEXTS, f"{OTHER} The Spey."], "b": TEXTS})
    rules, corpus = SENSITIVITIES["default"], open_corpus(dataset.path)
    result = run_audit(corpus, [BENCHMARK], rules, folder / "work", folder / "cache", 1)
    audit = folder / "data.audit" / "audit.json"
    write_reports(result, audit.parent, "data", 1.0)
    ids = {"a": dataset.manifest.dataset_id}

    def read(path: Path) -> None:
        audit_warnings({"a": str(dataset.path)}, ids)
        read_audit(path.parent, list(ids.values()))

    yield Target("audit.json", [audit.read_bytes()], _file(audit, read))
    plan = folder / "plan" / "plan.json"
    save_plan(small_plan(dataset), {"a": str(dataset.path), "b": str(dataset.path)}, plan)
    values = json.loads(plan.read_bytes())

    def opened(data: bytes) -> None:
        try:
            addresses = json.loads(data)
        except (ValueError, RecursionError):
            return
        plan.write_text(json.dumps(values | {"datasets": addresses}))
        for address in load_plan(plan)[1].values():
            Dataset.open(address)

    yield Target("plan's datasets", [json.dumps(values["datasets"]).encode()], opened)
    items = folder / "items.jsonl"
    items.write_bytes(_LINES)
    columns = [b"question=text&answer=title&id=id", b"passage=text&question=url&choices=title"]
    yield Target("benchmark's columns", columns, lambda data: _columns(items, data))


def _columns(path: Path, query: bytes) -> None:
    load_benchmarks([f"b={path}?{query.decode('utf-8', 'replace')}"])
