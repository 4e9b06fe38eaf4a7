"""What strangers may send: no code of theirs runs, no path leads out, no archive bursts, no secret
is written."""

import ast
import csv
import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from contamination import text_corpus
from contamination.benchmarks import load_benchmarks
from contamination.errors import AuditError
from pipeline import streams
from pipeline.errors import BuildError
from shards import formats_olmo
from shards.address_check import refuse_secrets
from shards.errors import DatasetError
from shards.formats_base import Reading
from shards.manifest import MANIFEST_NAME, Manifest, load_manifest, seal
from shards.plan import Plan
from shards.plan_file import load_plan, save_plan
from shards.reader import Dataset
from shards.verify import verify_dataset
from tests.fuzz_targets import small_plan
from tests.helpers import make_dataset
from train import checkpoint
from train.candidates import folder_candidate
from train.errors import TrainError
from train.hf_custom import copy_code, refuse_foreign_code

ROOT = Path(__file__).parent.parent
FOLDERS = ("configs", "shards", "contamination", "pipeline", "train")
SOURCES = [*(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.py"))), ROOT / "tally.py"]

# Calls that run what a file says, or hand a line to a shell.
CODE = {
    "pickle.load", "pickle.loads", "torch.load", "joblib.load", "eval", "exec", "os.system",
    "os.popen", "marshal.loads", "marshal.load", "dill.load", "dill.loads", "shelve.open",
    "pl.read_ipc_pickled", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
OWN_BYTES = {("pipeline/executor.py", "pickle.loads")}
"""What a process packed for its own workers, never a file."""
OWN_CODE = {"train/export.py", "train/hf_adapter.py"}
"""An export of ours is tried with the code that was just copied into it; `tally eval` of one runs
that code where it is, to the byte, the code we ship (`train.candidates`)."""
EXTRACT = {"extractall", "unpack_archive"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a module, with its dotted name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_runs_code_from_files(path: Path) -> None:
    for name, call in calls(path):
        where = path.relative_to(ROOT).as_posix()
        assert name not in CODE or (where, name) in OWN_BYTES, where
        assert name.rpartition(".")[2] not in EXTRACT, where
        assert keyword(call, "shell") in (None, "False"), where
        assert keyword(call, "allow_pickle") in (None, "False"), where
        if where not in OWN_CODE:
            assert keyword(call, "trust_remote_code") in (None, "False"), where
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "_UniqueKeyLoader", where  # a SafeLoader


class Malicious:
    """Runs code where a pickle of it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def bomb(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle, and the file that appears where it is loaded."""
    mark = tmp_path / "code-ran"
    return pickle.dumps(Malicious(mark)), mark


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "deepspeed/state.pt", "x.pkl"])
def test_a_pickle_in_a_checkpoint_is_not_loaded(
    tmp_path: Path, bomb: tuple[bytes, Path], name: str
) -> None:
    """Not even in a checkpoint whose checksums fit."""
    content, mark = bomb
    run = tmp_path / "run"
    checkpoint.begin(run, 3)
    folder = checkpoint.temporary_path(run, 3)
    for part in ("model.safetensors", "state.json", name):
        (folder / part).parent.mkdir(exist_ok=True)
        (folder / part).write_bytes(content)
    checkpoint.finish(run, 3)
    with pytest.raises((TrainError, ValueError)):
        checkpoint.load_model(run)
    assert not mark.exists()


def test_code_in_a_folder_that_says_it_is_an_export_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"model": {}}')
    (tmp_path / "config.json").write_text("{}")
    assert folder_candidate(tmp_path).ours
    copy_code(tmp_path)
    refuse_foreign_code(tmp_path)
    for name in ("them/model--modeling_tally.X", "other.X"):
        (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoConfig": name}}))
        with pytest.raises(TrainError, match="names code that is not ours"):
            folder_candidate(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "modeling_tally.py").write_text("print('hacked')")
    with pytest.raises(TrainError, match="not the code that this release exports"):
        folder_candidate(tmp_path)


@pytest.mark.parametrize("name", ["00000.bin", "00000.docs.parquet", "00000.docs.ids"])
def test_a_pickle_in_a_dataset_is_not_loaded(
    tmp_path: Path, bomb: tuple[bytes, Path], name: str
) -> None:
    content, mark = bomb
    dataset = make_dataset(tmp_path / "d", {"a": ["text"] * 9})
    (dataset.path / "a/train" / name).write_bytes(content)
    assert verify_dataset(dataset.path).problems
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../outside.bin", "/etc/passwd", "a/../../outside.bin", "a\\..\\x", "", ".", "a\0b"]
)
def test_no_path_of_a_manifest_leads_out(tmp_path: Path, name: str) -> None:
    dataset = make_dataset(tmp_path / "d", {"a": ["text"]})
    for key in ("path", "index_path", "ids_path"):
        values = dataset.manifest.model_dump(mode="json")
        values["sources"]["a"]["splits"]["train"]["shards"][0][key] = name
        (dataset.path / MANIFEST_NAME).write_text(json.dumps(values))
        with pytest.raises(DatasetError, match=f"{key}: .*leaves the dataset directory"):
            load_manifest(dataset.path)


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", ".hidden", "", "a" * 101])
def test_no_name_of_a_source_leads_out(tmp_path: Path, name: str) -> None:
    dataset = make_dataset(tmp_path / "d", {"a": ["text"]})
    values = dataset.manifest.model_dump(mode="json")
    values["sources"] = {name: values["sources"]["a"]}
    (dataset.path / MANIFEST_NAME).write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="not a manifest of ours"):
        load_manifest(dataset.path)


def test_no_link_leads_out(tmp_path: Path) -> None:
    """A link within the directory to a file outside, with the right content or a wrong one."""
    dataset = make_dataset(tmp_path / "d", {"a": ["text"] * 20})
    shard = dataset.path / "a/train/00000.bin"
    outside = tmp_path / "secret.bin"
    outside.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(outside)
    with pytest.raises(DatasetError, match="leads out of the dataset directory; refused"):
        Dataset.open(dataset.path).stream("a").tokens(0, 3)
    assert any("symbolic link" in problem for problem in verify_dataset(dataset.path).problems)
    folder = dataset.path / "a/train"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="leads out of the dataset directory; refused"):
        Dataset.open(dataset.path).stream("a").documents()


def test_duplicates_of_a_plan_lie_beside_it(tmp_path: Path) -> None:
    run, plan = tmp_path / "run", small_plan()
    save_plan(plan, {"a": "x", "b": "y"}, run / "plan.json")
    values = json.loads((run / "plan.json").read_text())
    (tmp_path / "secret").write_text("x")
    values["duplicates"] = {"file": "../secret", "documents": 1, "blake3": "0"}
    (run / "plan.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=r"run/secret: missing or changed"):
        load_plan(run / "plan.json")
    assert isinstance(plan, Plan)


def test_small_archives_with_much_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are made small here; they are a gigabyte for benchmarks, two for a line of text."""
    monkeypatch.setattr("contamination.benchmarks._MOST_BYTES", 1 << 20)
    monkeypatch.setattr(text_corpus, "_MOST_LINE_BYTES", 1 << 20)
    zeros = b"0" * (40 << 20)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(zeros))
    with pytest.raises(AuditError, match="unpacks to more than"):
        load_benchmarks([f"b={packed}"])
    for name, content in (("t.jsonl.gz", gzip.compress(zeros)), ("t.jsonl.zst", _zstd(zeros))):
        (tmp_path / name).write_bytes(content)
        corpus = text_corpus.TextCorpus(tmp_path / name, "text")
        with pytest.raises(AuditError, match="a line of more than"):
            list(corpus.blocks(corpus.pieces[0]))


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def test_a_long_line_in_an_olmo_index(tmp_path: Path) -> None:
    (tmp_path / "p.npy").write_bytes(b"\1\0\0\0")
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(b"1" * (3 << 20)))
    reading = Reading(0, "end", np.dtype("<u2"))
    with pytest.raises(DatasetError, match="a line of more than 1048576 bytes"):
        formats_olmo.open_olmo(tmp_path / "p.npy", reading)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:wJalrXUtnFEMI@bucket/dataset",
        "https://user:hunter2@host/data/*.jsonl",
        "https://host/data.jsonl?X-Amz-Signature=wJalrXUtnFEMI",
        "https://host/data.jsonl?token=hunter2",
        "abfs://c@account/data?sig=hunter2",
    ],
)
def test_addresses_with_secrets_are_refused_and_not_repeated(address: str) -> None:
    for action in (lambda: Dataset.open(address), lambda: streams.find(address)):
        with pytest.raises((DatasetError, BuildError), match="holds a password or a token") as said:
            action()
        assert not any(s in str(said.value) for s in ("hunter2", "wJalrXUtnFEMI", "AKIA"))


@pytest.mark.parametrize(
    "address", ["s3://bucket/key", "data/a:b@c.jsonl", "hdfs://me@host/x", "x?y"]
)
def test_other_addresses_are_not(address: str) -> None:
    refuse_secrets(address)


def test_cells_of_tables_are_text(tmp_path: Path) -> None:
    """A sheet with a field of any size, quotes, and formulas is read as it is."""
    rows = [{"question": "=cmd|' /C calc'!A0", "answer": "x" * 100_000}]
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, ["question", "answer"])
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "b.csv").write_text(sheet.getvalue())
    (benchmark,) = load_benchmarks([f"b={tmp_path}/b.csv?question=question&answer=answer"])
    assert benchmark.items[0].question == rows[0]["question"]


def test_launchers_listen_on_loopback_where_one_machine_trains() -> None:
    """Every address given to a launcher is 127.0.0.1, but for jobs that span machines."""
    text = (ROOT / "train" / "launch.py").read_text(encoding="utf-8")
    assert '_LOOPBACK = "127.0.0.1"' in text
    assert text.count("--master_addr") == text.count('--master_addr", _LOOPBACK')
    for path in SOURCES:
        assert "0.0.0.0" not in path.read_text(encoding="utf-8"), path


def test_sealing_needs_no_trust(tmp_path: Path) -> None:
    """A manifest with a field that we do not know is refused, whoever sealed it."""
    dataset = make_dataset(tmp_path / "d", {"a": ["text"]})
    values = dataset.manifest.model_dump(mode="json") | {"run_this": "rm -rf"}
    (dataset.path / MANIFEST_NAME).write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="run_this: Extra inputs are not permitted"):
        load_manifest(dataset.path)
    assert seal(dataset.path, Manifest.model_validate(dataset.manifest.model_dump()))
