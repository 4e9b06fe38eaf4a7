"""Disks that are full, broken, read-only, slow or strange, under the commands a user types.

Every command either ends as on a good disk, or says plainly what was wrong and leaves nothing that
passes for whole; given again once the cause is gone, it ends as on a good disk.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shards.lock import held
from tests.helpers import make_dataset
from tests.test_train_run import ONE_THREAD, alphabets, write_config

ROOT = Path(__file__).parent.parent
NOBODY = 65534
ERRORS = {
    "enospc": "No space left on device",
    "eio-write": "Input/output error",
    "eio-fsync": "Input/output error",
    "eio-read": "Input/output error",
    "enolck": "has no locks",
}
HARMLESS = ("short-read", "short-write", "slow", "clock")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of faults, compiled."""
    compiler = shutil.which("cc") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "io_faults.so"
    source = ROOT / "tests" / "io_faults.c"
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    subprocess.run([*command, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Job:
    """A command, where it writes, and what of it must be the same every time.

    Attributes:
        command: arguments of `tally`.
        output: what it makes.
        leftovers: what a failed one may leave beside it.
        state: name -> content of what it made.
    """

    command: tuple[str, ...]
    output: Path
    leftovers: tuple[str, ...]
    state: Callable[[], dict[str, bytes]]

    def run(
        self, env: dict[str, str] | None = None, user: int | None = None
    ) -> "subprocess.CompletedProcess[str]":
        line = (sys.executable, "-m", "tally", *self.command)
        cache = {"TALLY_CACHE": str(self.output.parent / "cache")}
        return subprocess.run(
            line, cwd=ROOT, env=ONE_THREAD | cache | (env or {}), capture_output=True, text=True,
            check=False, timeout=300, user=user,
        )  # fmt: skip

    def forget(self) -> None:
        for path in (self.output, *(self.output.parent / name for name in self.leftovers)):
            shutil.rmtree(path, ignore_errors=True)


def tree(folder: Path, ignore: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Content of every file below a folder."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in files.items() if not name.startswith(ignore)}


def convert_job(folder: Path) -> Job:
    if not (folder / "dataset").exists():
        make_dataset(folder / "dataset", {"one": alphabets(200, 0)}, shard_tokens=3000)
    output = folder / "out" / "made"
    command = ("convert", str(folder / "dataset"), str(output), "--to", "llmc")
    return Job(command, output, (".made.partial",), lambda: tree(output))


def build_job(folder: Path) -> Job:
    with (folder / "t.jsonl").open("w", encoding="utf-8") as file:
        for i in range(300):
            words = " ".join(f"w{(i * 37 + k) % 1000}" for k in range(120))
            file.write(json.dumps({"id": f"{i}", "text": words}) + "\n")
    text = {"kind": "jsonl", "licence": "CC0", "id": "id", "paths": [f"{folder}/t.jsonl"]}
    values = {
        "name": "made",
        "sources": {"text": text},
        "tokenizer": {"vocab_size": 1000},
        "shards": {"shard_tokens": 20_000},
    }
    (folder / "build.yaml").write_text(json.dumps(values), encoding="utf-8")
    output = folder / "out" / "made"
    command = ("build", str(folder / "build.yaml"), "-o", str(output), "--workers", "1")
    return Job(command, output, ("made.work",), lambda: tree(output))


def audit_job(folder: Path) -> Job:
    rows = [f"w{i} " + " ".join(f"w{(i * 37 + k) % 1000}" for k in range(120)) for i in range(99)]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    (folder / "t.jsonl").write_text(lines, encoding="utf-8")
    sheet = "question,answer\n" + "".join(f"{row[:200]},yes\n" for row in rows[::20])
    (folder / "items.csv").write_text(sheet, encoding="utf-8")
    output = folder / "out" / "made"
    items = f"items={folder}/items.csv?question=question&answer=answer"
    command = ("audit", str(folder / "t.jsonl"), "-b", items, "-o", str(output))
    ignored = ("audit_log.json", "work/")
    return Job(command, output, ("cache/audit",), lambda: tree(output, ignored))


def train_job(folder: Path) -> Job:
    dataset = folder / "dataset"
    texts = {"one": alphabets(40, 0), "two": alphabets(25, 3)}
    make_dataset(dataset, texts, {"one": alphabets(6, 1), "two": alphabets(6, 2)}, shard_tokens=300)
    run = folder / "out" / "made"
    config = write_config(folder, dataset)
    settings = ("checkpoint.every_steps=5", "checkpoint.keep=2")
    command = ("train", str(config), "-o", str(run), "--ranks", "1", *settings)
    return Job(command, run, (), lambda: trained(run))


def trained(run: Path) -> dict[str, bytes]:
    """Ledger, losses, and the weights of the kept checkpoints."""
    lines = map(json.loads, (run / "metrics.jsonl").open())
    losses = json.dumps([(line["step"], line["loss"]) for line in lines if "loss" in line])
    weights = tree(run / "checkpoints")
    kept = {name: value for name, value in weights.items() if name.endswith("model.safetensors")}
    ledger = (run / "ledger.jsonl").read_bytes()
    return kept | {"ledger": ledger, "losses": losses.encode()}


JOBS = {"convert": convert_job, "build": build_job, "audit": audit_job, "train": train_job}


def faulty(shim: Path, kind: str, after: int = 0) -> dict[str, str]:
    """The environment of a process with that fault below any `out` folder."""
    if kind == "clock":
        return {"LD_PRELOAD": str(shim), "CLOCK_JUMP": "90000"}
    return {
        "LD_PRELOAD": str(shim),
        "IO_FAULT": kind,
        "IO_MATCH": "/out/",
        "IO_AFTER": str(after),
    }


def check_refused(job: Job, result: "subprocess.CompletedProcess[str]", said: str) -> None:
    """A plain error, and nothing that passes for whole."""
    text = result.stdout + result.stderr
    assert result.returncode != 0, text
    assert said in text, text
    assert "error:" in text, text
    assert "Traceback" not in text, text
    for name in ("manifest.json", "conversion.json", "audit.json"):
        assert not (job.output / name).exists(), name


def check_fault(job: Job, env: dict[str, str], said: str, calm: dict[str, bytes]) -> bool:
    """One faulty run and one good one; returns whether the fault was noticed at all."""
    job.forget()
    result = job.run(env)
    noticed = result.returncode != 0
    if noticed:
        check_refused(job, result, said)
        good = job.run()
        assert good.returncode == 0, good.stdout + good.stderr
    assert job.state() == calm
    return noticed


def driven(job: Job, env: dict[str, str], *arguments: str) -> list[Any]:
    """Lines of JSON from `tests.faulty_process`."""
    line = (sys.executable, "-m", "tests.faulty_process", job.command[1], str(job.output))
    command = [*line, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=ONE_THREAD | env, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_convert_on_broken_disks(tmp_path: Path, shim: Path) -> None:
    job = convert_job(tmp_path)
    kinds = ["enospc", "eio-write", "eio-fsync", "enolck", *HARMLESS]
    for found in driven(job, {"LD_PRELOAD": str(shim)}, *kinds):
        assert found["same"], found
        if found["kind"] in HARMLESS:
            assert found["code"] == 0, found
        else:
            assert found["code"] == 2, found
            assert ERRORS[found["kind"]] in found["said"]
            assert not found["left"]


@pytest.fixture(scope="module", params=JOBS)
def calm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, dict[str, bytes]]:
    """A command, and what it makes on a good disk."""
    job = JOBS[request.param](tmp_path_factory.mktemp(request.param))
    assert (first := job.run()).returncode == 0, first.stderr
    state = job.state()
    job.forget()
    return job, state


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ERRORS)
def test_every_command_on_broken_disks(
    calm: tuple[Job, dict[str, bytes]], shim: Path, kind: str
) -> None:
    """The disk fails from the first, the third, the eighth, the 21st call on."""
    job, state = calm
    moments = (0,) if kind == "enolck" else (0, 2, 7, 20)
    noticed = [check_fault(job, faulty(shim, kind, m), ERRORS[kind], state) for m in moments]
    print(f"\n{job.command[0]}, {kind}: noticed {sum(noticed)} times of {len(moments)}")
    assert any(noticed) or kind not in ("enospc", "eio-write")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", HARMLESS)
def test_every_command_on_odd_disks(
    calm: tuple[Job, dict[str, bytes]], shim: Path, kind: str
) -> None:
    job, state = calm
    job.forget()
    result = job.run(faulty(shim, kind))
    assert result.returncode == 0, result.stdout + result.stderr
    assert job.state() == state


_MAPPED = """
import os, sys, typer
from configs.terminal import main
from shards.reader import Dataset
app = typer.Typer()
@app.command()
def read(dataset: str):
    stream = Dataset.open(dataset).stream("one")
    stream.tokens(0, 10)
    os.truncate(f"{dataset}/one/train/00000.bin", 0)
    stream.tokens(0, 10)
main(app)
"""


def test_a_mapped_file_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    """The system kills with SIGBUS, which no code can turn into an error; the line is told."""
    dataset = make_dataset(tmp_path / "dataset", {"one": alphabets(20, 0)})
    line = [sys.executable, "-c", _MAPPED, str(dataset.path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr
    assert "shards/reader.py" in done.stderr


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `folder`."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", ["convert", *(pytest.param(n, marks=pytest.mark.slow)
                                               for n in JOBS if n != "convert")])  # fmt: skip
def test_a_full_disk(tmp_path: Path, name: str) -> None:
    job = JOBS[name](tmp_path)
    with small_disk(tmp_path / "out", 16_384):
        check_refused(job, job.run(), "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=400m", str(tmp_path / "out")], check=True)
        assert (again := job.run()).returncode == 0, again.stdout + again.stderr
        full = job.state()
    assert (calm := job.run()).returncode == 0, calm.stderr
    assert job.state() == full


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_permission_denied(tmp_path: Path) -> None:
    """Root may write anywhere, so the process becomes somebody else."""
    job = convert_job(tmp_path)
    mine = (folder for folder in tmp_path.parents if folder.name.startswith("pytest-of-"))
    base = next(mine, tmp_path)  # with --basetemp there is none
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(base):
            folder.chmod(0o755)
    (denied, said), (allowed, _) = driven(job, {}, "--user", str(NOBODY))
    assert (denied, allowed) == (2, 0), said
    assert "(Permission denied); choose another output" in said


@pytest.mark.parametrize("name", ["convert", *(pytest.param(n, marks=pytest.mark.slow)
                                               for n in JOBS if n != "convert")])  # fmt: skip
def test_two_processes_on_one_output(tmp_path: Path, name: str) -> None:
    """The second says who holds the output; the first is not disturbed."""
    job = JOBS[name](tmp_path)
    lock = {
        "convert": job.output.with_name(".made.lock"),
        "build": job.output.with_name("made.work") / "lock",
        "audit": job.output / ".lock",
        "train": job.output / ".lock",
    }[name]
    with held(lock, "held by the test", "wait"):
        check_refused(job, job.run(), f"process {os.getpid()} on ")
    assert (again := job.run()).returncode == 0, again.stdout + again.stderr
