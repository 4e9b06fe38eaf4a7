"""kill -9 at random moments of every long command, over and over; then the state of a calm run.

A campaign of an hour, run by hand (`make campaign`). The fixed kills of every test run are in
test_pipeline_kill, test_shards_convert and test_train_kill. KILLS=0.1 makes a tenth of them.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import make_dataset
from tests.test_train_run import ONE_THREAD, alphabets, write_config
from tests.tiny_run import make_run

ROOT = Path(__file__).parent.parent
SCALE = float(os.environ.get("KILLS", "1"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Victim:
    """A command, where it writes, and what of it must not depend on the kills.

    Attributes:
        command: Arguments of `tally`.
        outputs: Files and directories that the command makes; removed for a fresh start.
        state: Name -> digest of all that must be the same.
        aim: A glob below the parent of `outputs[0]`; half of the kills wait until it matches.
    """

    command: tuple[str, ...]
    outputs: tuple[Path, ...]
    state: Callable[[], dict[str, str]]
    aim: str

    def start(self) -> "subprocess.Popen[bytes]":
        line = (sys.executable, "-m", "tally", *self.command)
        return subprocess.Popen(
            line, cwd=ROOT, env=ONE_THREAD, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(self) -> None:
        process = self.start()
        text = process.communicate(timeout=600)[0].decode()
        assert process.returncode == 0, text

    def forget(self) -> None:
        for path in self.outputs:
            shutil.rmtree(path, ignore_errors=True)


def kill(process: "subprocess.Popen[bytes]", whole_group: bool) -> bool:
    """Kill the command alone, or with all its children; nothing may live on. Was it alive?"""
    if process.poll() is not None:
        text = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 0, text
        return False
    group = process.pid  # it began a session of its own
    (os.killpg if whole_group else os.kill)(group, signal.SIGKILL)
    process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(group), "children outlived the command"
    return True


def _alive(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, ValueError):  # ended meanwhile
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


def strike(victim: Victim, rng: random.Random, calm_s: float) -> bool:
    """Start the command and kill it at a random moment; returns whether it was still at work."""
    process = victim.start()
    until = time.monotonic() + rng.uniform(0, 1.1 * calm_s)
    aimed = rng.random() < 0.5
    while time.monotonic() < until and process.poll() is None:
        if aimed and next(victim.outputs[0].parent.glob(victim.aim), None):
            break
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))
    return kill(process, whole_group=rng.random() < 0.5)


def campaign(victim: Victim, kills: int, seed: int) -> None:
    """Kill so often; compare the end state after every command that came through."""
    began = time.monotonic()
    victim.finish()
    calm_s, expected = time.monotonic() - began, victim.state()
    victim.forget()
    rng, done, whole = random.Random(seed), 0, 0
    while done < max(1, round(kills * SCALE)):
        if strike(victim, rng, calm_s):
            done += 1
            continue
        whole += 1
        assert victim.state() == expected
        victim.forget()
    victim.finish()
    assert victim.state() == expected
    print(f"{victim.command[0]}: {done} kills, {whole + 1} end states compared")


def tree(directory: Path, ignore: tuple[str, ...] = ()) -> dict[str, str]:
    """Digest of every file below a directory."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(directory).as_posix() for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if not name.startswith(ignore)
    }  # fmt: skip


def corpus(folder: Path) -> Path:
    """JSONL files of made-up text with repetitions, and a benchmark whose items are in it."""
    folder.mkdir(parents=True)
    for part in range(4):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(400):
                words = " ".join(f"w{(i * 37 + k * (part % 3 + 1)) % 1000}" for k in range(120))
                file.write(json.dumps({"id": f"{part}-{i}", "text": words}) + "\n")
    with (folder / "items.csv").open("w", encoding="utf-8") as file:
        file.write("question,answer\n")
        for i in range(0, 400, 50):
            question = [f"w{(i * 37 + k) % 1000}" for k in range(40)]
            file.write(f"{' '.join(question)},{question[-1]}\n")
    return folder


@pytest.mark.parametrize("seed", [1])
def test_build(tmp_path: Path, seed: int) -> None:
    texts = corpus(tmp_path / "texts")
    benchmark = f"items={texts}/items.csv?question=question&answer=answer"
    values = {
        "name": "killed",
        "sources": {
            "text": {"kind": "jsonl", "licence": "CC0", "id": "id", "paths": [f"{texts}/*.jsonl"]},
            "math": {
                "kind": "docstrings", "licence": "BSD", "profile": "math", "packages": ["networkx"],
            },
        },
        "split": {"val_fraction": 0.05},
        "decontamination": {"benchmarks": [benchmark], "action": "drop"},
        "tokenizer": {"vocab_size": 2000},
        "shards": {"shard_tokens": 50_000},
    }  # fmt: skip
    config, output = tmp_path / "build.yaml", tmp_path / "out" / "killed"
    config.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    campaign(
        Victim(
            command=("build", str(config), "-o", str(output), "--workers", "2"),
            outputs=(output, output.with_name("killed.work")),
            state=lambda: tree(output),
            aim="killed.work/**/.*.tmp",
        ),
        60, seed,
    )  # fmt: skip


def test_convert(tmp_path: Path) -> None:
    texts = {"one": alphabets(30_000, 0)}
    make_dataset(tmp_path / "dataset", texts, shard_tokens=200_000)
    output = tmp_path / "out" / "converted"
    campaign(
        Victim(
            command=("convert", str(tmp_path / "dataset"), str(output), "--to", "megatron"),
            outputs=(output.parent,),
            state=lambda: tree(output),
            aim="out/**/*.tmp",
        ),
        30, 2,
    )  # fmt: skip


def test_audit(tmp_path: Path) -> None:
    texts, output = corpus(tmp_path / "texts"), tmp_path / "out" / "audit"
    benchmark = f"items={texts}/items.csv?question=question&answer=answer"
    campaign(
        Victim(
            command=("audit", str(texts), "-b", benchmark, "-o", str(output)),
            outputs=(output,),
            state=lambda: tree(output, ignore=("audit_log.json", "work/")),
            aim="audit/**/.*.tmp",
        ),
        40, 3,
    )  # fmt: skip


def test_train(tmp_path: Path) -> None:
    make_dataset(
        tmp_path / "dataset",
        {"one": alphabets(40, 0), "two": alphabets(25, 3)},
        {"one": alphabets(6, 1), "two": alphabets(6, 2)},
        shard_tokens=300,
    )
    config, run = write_config(tmp_path, tmp_path / "dataset"), tmp_path / "out" / "run"
    settings = ("checkpoint.every_steps=5", "checkpoint.keep=2")
    campaign(
        Victim(
            command=("train", str(config), "-o", str(run), "--ranks", "1", *settings),
            outputs=(run,),
            state=lambda: _training(run),
            aim="run/checkpoints/tmp-*",
        ),
        40, 4,
    )  # fmt: skip


def _training(run: Path) -> dict[str, str]:
    """Ledger, losses, and the weights and optimizer state of the kept checkpoints."""
    lines = map(json.loads, (run / "metrics.jsonl").open())
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    weights = {
        name: digest
        for name, digest in tree(run / "checkpoints").items()
        if name.endswith("model.safetensors")
    }
    return weights | {
        "ledger": hashlib.sha256((run / "ledger.jsonl").read_bytes()).hexdigest(),
        "losses": json.dumps(losses),
    }


@pytest.mark.parametrize(
    ("command", "folder"),
    [(("eval", "--tasks", "sciq", "--limit", "30"), "eval"), (("export",), "export")],
)
def test_results(tmp_path: Path, command: tuple[str, ...], folder: str) -> None:
    run = make_run(tmp_path)
    campaign(
        Victim(
            command=(command[0], str(run), *command[1:]),
            outputs=(run / folder,),
            state=lambda: tree(run / folder),
            aim=f"{folder}/**/.*.tmp" if folder == "eval" else f".{folder}.tmp",
        ),
        25, 5,
    )  # fmt: skip
