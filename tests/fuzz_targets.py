"""Every parser of files that may come from strangers, as a function of bytes, with valid examples.

A target reads what the bytes say as its users do, to the end. What it may raise is one of our own
exceptions; anything else is a bug.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.loading import load
from contamination.benchmarks import load_benchmarks
from contamination.text_corpus import TextCorpus
from shards.convert import chosen_parts, export_dataset, find_format
from shards.detokenize import Decoder
from shards.errors import DatasetError
from shards.formats_base import EosAt, Reading
from shards.hash_table import find_values, write_table
from shards.hashing import blake3_file
from shards.ledger import LedgerEntry, hex_digest, planned_entry, read_ledger, verify
from shards.manifest import Manifest, load_manifest, parse_manifest, seal
from shards.plan import Plan
from shards.plan_file import Earlier, earlier_plans, load_plan, save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.tokenizer_file import load_tokenizer
from shards.verify import require_sound, verify_dataset
from tests.helpers import byte_tokenizer, make_dataset

TEXTS = ["one line of text\n", "", "zwei Zeilen \u00e4\n" * 3, "three", "\U0001f642 four"] * 4


class Target(NamedTuple):
    """One parser."""

    name: str
    examples: list[bytes]
    parse: Callable[[bytes], object]


def small_plan(dataset: Dataset | None = None) -> Plan:
    """Two sources, two phases, windows of two lengths."""
    found = dataset.manifest.dataset_id if dataset else "0" * 32
    sources = tuple(PlanSource(name, found, name, "train", 500) for name in ("a", "b"))
    phases = (
        PlanPhase("first", 6, 4, ("1/2", "1/2")),
        PlanPhase("last", 5, 6, ("1/4", "3/4"), seq_len=16),
    )
    return Plan(8, 7, "shuffled", sources, phases)


def ledger_lines(plan: Plan) -> bytes:
    """A ledger of all steps of a plan."""
    entries = [
        {"step": step, "tokens_digest": hex_digest(step)} | planned_entry(plan, step)
        for step in range(plan.num_steps)
    ]
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def targets(folder: Path) -> Iterator[Target]:
    """All targets; files are made below `folder`."""
    dataset = make_dataset(folder / "dataset", {"a": TEXTS, "b": TEXTS[::-1]}, {"a": ["held out"]})
    yield from _contracts(folder, dataset)
    yield from _tables(folder)
    yield from _formats(folder, dataset)
    yield from _configurations(folder)
    yield from _texts(folder)


def _contracts(folder: Path, dataset: Dataset) -> Iterator[Target]:
    raw = (dataset.path / "manifest.json").read_bytes()
    yield Target("manifest", [raw], lambda data: parse_manifest(data, "fuzzed"))
    resealed = folder / "resealed"
    resealed.mkdir()
    yield Target("manifest, id recomputed", [raw], lambda data: _resealed(resealed, data))
    yield _index_target(folder)
    plan, path = small_plan(dataset), folder / "plan" / "plan.json"
    save_plan(plan, {"a": "x", "b": "y"}, path, (Earlier(plan.prefix(1, 2).plan_id, 1, 2),))
    raw = path.read_bytes()
    yield Target("plan", [raw], lambda data: _plan_file(path, data))
    yield Target("plan, id recomputed", [raw], lambda data: _plan_file(path, _with_id(data)))
    run = folder / "ledger"
    run.mkdir()
    yield Target("ledger", [ledger_lines(plan)], lambda data: _ledger(run, plan, data))


def _resealed(folder: Path, data: bytes) -> None:
    """A manifest whose id fits whatever it says."""
    try:
        manifest = Manifest.model_validate(json.loads(data))
        sealed = manifest.model_copy(update={"dataset_id": manifest.computed_id()})
    except (ValueError, RecursionError):
        return
    opened = parse_manifest(sealed.model_dump_json().encode(), "fuzzed")
    for name in opened.files():
        assert (folder / name).resolve().is_relative_to(folder.resolve()), name


def _index_target(folder: Path) -> Target:
    """A document index whose checksum fits: what `tally verify` makes of a stranger's dataset."""
    dataset = make_dataset(folder / "indexed", {"a": TEXTS})
    manifest = dataset.manifest
    ((_, _, shard),) = manifest.shards()
    path = dataset.path / shard.index_path
    table = io.BytesIO()
    pq.write_table(pq.read_table(path), table, compression="none")

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        values = manifest.model_dump(mode="json")
        facts = values["sources"]["a"]["splits"]["train"]["shards"][0]
        facts |= {"index_bytes": len(data), "index_blake3": blake3_file(path)}
        seal(dataset.path, Manifest.model_validate(values))
        require_sound(verify_dataset(dataset.path))

    return Target("document index, resealed", [path.read_bytes(), table.getvalue()], parse)


def _with_id(data: bytes) -> bytes:
    try:
        values = json.loads(data)
        values["plan_id"] = Plan.from_json(values["plan"]).plan_id
        values["earlier"] = []
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return data
    return json.dumps(values).encode()


def _plan_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    plan, _ = load_plan(path)
    earlier_plans(path)
    last = plan.num_steps - 1
    if plan.batch_windows(last) <= 1 << 16:
        plan.step(0), plan.step(last)
    plan.account(plan.num_steps)


def _ledger(run: Path, plan: Plan, data: bytes) -> None:
    (run / "ledger.jsonl").write_bytes(data)
    entries = list(read_ledger(run))
    wrong = [bool(found) for found in verify(plan, entries)]
    if not any(wrong) and len(entries) == plan.num_steps:
        expected = [LedgerEntry(**json.loads(line)) for line in ledger_lines(plan).splitlines()]
        for entry, right in zip(entries, expected, strict=True):
            assert entry.windows_digest == right.windows_digest
            assert entry.windows == right.windows


def _tables(folder: Path) -> Iterator[Target]:
    keys = np.arange(1000, dtype=np.uint32) * np.uint32(4_294_967)
    small, path = io.BytesIO(), folder / "table"
    write_table(small, keys[:40], np.arange(40, dtype=np.uint32))
    large = io.BytesIO()
    write_table(large, keys, np.arange(1000, dtype=np.uint32))

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        find_values(path, [0, int(keys[7]), 2**32 - 1])

    yield Target("look-up table", [small.getvalue(), large.getvalue()], parse)
    tokenizer = byte_tokenizer().to_str().encode()
    yield Target("tokenizer.json", [tokenizer], lambda data: _tokenizer(folder / "t.json", data))


def _tokenizer(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tokenizer = load_tokenizer(path)
    ids = np.array([1, 2, 3, 0], np.uint16)
    Decoder(tokenizer).texts(ids, np.array([0]), np.array([3]))


def _formats(folder: Path, dataset: Dataset) -> Iterator[Target]:
    """The token file and every sidecar of every format, one damaged and the others whole."""
    for name in ("nanogpt", "llmc", "megatron", "datatrove", "olmo", "parquet"):
        destination = folder / name
        export_dataset(chosen_parts(dataset, "a", "train"), destination, name)
        chosen = find_format(name)
        (token_file,) = (p for p in destination.rglob(f"*{chosen.suffix}"))
        _unlink_shared(token_file)
        sidecars = [p for p in chosen.sidecars(token_file) if p.suffix != ".metadata"]
        files = [token_file, *(p for p in sidecars if p.is_file())]
        for file in files:
            parse, what = _reader(name, token_file, file), f"{name} {''.join(file.suffixes)}"
            yield Target(what, [file.read_bytes()], parse)
            if file.suffix == ".gz":
                yield Target(
                    f"{what}, inside", [gzip.decompress(file.read_bytes())], _packing(parse)
                )
            if name == "parquet":
                yield Target(f"{what}, plain", [_plain(file)], parse)


def _unlink_shared(path: Path) -> None:
    """A file of its own: an exported one may be a hard link to the dataset's."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def _reader(name: str, token_file: Path, damaged: Path) -> Callable[[bytes], object]:
    whole, ways = damaged.read_bytes(), ("end", "start", "none")
    state = {"n": 0}

    def parse(data: bytes) -> None:
        state["n"] += 1
        eos_at: EosAt = ways[state["n"] % 12 if state["n"] % 12 < 3 else 0]  # type: ignore[assignment]
        damaged.write_bytes(data)
        try:
            reading = Reading(0, eos_at, np.dtype("<u2"))
            found = find_format(name).read([token_file], reading)
            for document in islice(found, 10_000):
                assert len(document.content) <= len(data) * 64 + len(whole)
        finally:
            damaged.write_bytes(whole)

    return parse


def _packing(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Damage inside the archive, whose outside is whole."""
    return lambda data: parse(gzip.compress(data, 1))


def _plain(path: Path) -> bytes:
    """A Parquet file without compression, where damage reaches the values."""
    out = io.BytesIO()
    pq.write_table(pq.read_table(path), out, compression="none", use_dictionary=False)
    return out.getvalue()


def _configurations(folder: Path) -> Iterator[Target]:
    from configs.build import BuildConfig
    from configs.experiment import ExperimentConfig
    from configs.train import TrainConfig

    root = Path(__file__).parent.parent / "configs"
    for name, schema, examples in (
        ("build", BuildConfig, [root / "demo" / "build.yaml", *sorted(root.glob("mixes/*.yaml"))]),
        (
            "train",
            TrainConfig,
            [root / "demo" / "train.yaml", *sorted(root.glob("recipes/*.yaml"))],
        ),
        ("experiment", ExperimentConfig, sorted(root.glob("experiments/*.yaml"))),
    ):
        path = folder / f"{name}.yaml"
        parse = _config(path, schema)
        small = [e.read_bytes() for e in examples if e.stat().st_size < 6000]
        yield Target(f"{name}.yaml", [*small, *_YAML], parse)


_YAML = [
    b"a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}}\n",
    b"name: n\nextends: other.yaml\nsources: {a: {kind: jsonl, paths: [x]}}\n",
    b"? [1, 2]\n: 3\n2001-01-01: !!binary aGk=\n1_000: 0x1F\n",
]


def _config(path: Path, schema: Any) -> Callable[[bytes], object]:
    def parse(data: bytes) -> None:
        path.write_bytes(data)
        load(path, schema)

    return parse


def _texts(folder: Path) -> Iterator[Target]:
    rows = [{"id": i, "question": f"what is {i}?", "answer": 1, "choices": ["a", "b"], "text": text}
            for i, text in enumerate(TEXTS)]  # fmt: skip
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, ["id", "question", "answer"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table, compression="none")
    for suffix, example in (
        (".jsonl", lines), (".csv", sheet.getvalue().encode()), (".jsonl.gz", gzip.compress(lines)),
        (".parquet", table.getvalue()),
    ):  # fmt: skip
        path = folder / f"bench{suffix}"
        parse = _benchmark(path)
        yield Target(f"benchmark {suffix}", [example], parse)
        if suffix == ".jsonl.gz":
            yield Target(f"benchmark {suffix}, inside", [lines], _packing(parse))
    samples = "\n".join(
        json.dumps({"doc_id": i, "doc": row, "target": "1", "filter": "none", "acc": 1.0})
        for i, row in enumerate(rows)
    )
    yield Target("logged samples", [samples.encode()], _logged(folder / "t.samples.jsonl"))
    for suffix, example in (
        (".jsonl", lines), (".jsonl.gz", gzip.compress(lines)), (".parquet", table.getvalue()),
    ):  # fmt: skip
        yield Target(f"audited text {suffix}", [example], _audited(folder / f"text{suffix}"))


def _benchmark(path: Path) -> Callable[[bytes], object]:
    def parse(data: bytes) -> None:
        path.write_bytes(data)
        load_benchmarks([f"b={path}?question=question&answer=answer"])

    return parse


def _logged(path: Path) -> Callable[[bytes], object]:
    def parse(data: bytes) -> None:
        path.write_bytes(data)
        load_benchmarks([f"samples:{path}?question=question&choices=choices"])

    return parse


def _audited(path: Path) -> Callable[[bytes], object]:
    def parse(data: bytes) -> None:
        path.write_bytes(data)
        corpus = TextCorpus(path, "text")
        for piece in corpus.pieces:
            for block in corpus.blocks(piece):
                corpus.decode(block)

    return parse


__all__ = [
    "TEXTS",
    "DatasetError",
    "Target",
    "ledger_lines",
    "load_manifest",
    "seal",
    "small_plan",
    "targets",
]
