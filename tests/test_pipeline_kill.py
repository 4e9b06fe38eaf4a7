"""kill -9 in the middle of every stage, with two workers: run again, the same bytes, no orphans.

Whether a stage was hit in its middle is looked at after the kill. Where a loaded machine was too
slow for it, the stage is undone and begun again: nothing here depends on how long anything takes.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest

from configs.build import BuildConfig
from pipeline.build import build
from tests.helpers import byte_tokenizer

ROOT = Path(__file__).parent.parent
NOTICE = "Sign up for the letter of the parish and read the news of the mills every Sunday."
QUESTION = (
    "Which toy did the blacksmith of Skerryvore hammer from tin for nineteen orphans of the "
    "November storm, and where did the harbour master hide it?"
)
STAGES = [
    "extract-text", "extract-math", "filter-text", "filter-math", "held-*", "signatures", "order",
    "candidates", "ngrams", "similar", "dedup", "units", "repeats", "keepers", "passages",
    "benchmarks", "scan", "decontaminate",
    "tokenizer", "encoder", "encode", "layout", "pack",
]  # fmt: skip


def held_dataset(folder: Path) -> Path:
    """A dataset that must not be repeated: it has some of the documents."""
    texts = {f"h{i}": " ".join(f"w{(i * 37 + k) % 1000}" for k in range(120)) for i in range(50)}
    lines = "\n".join(json.dumps({"id": key, "text": text}) for key, text in texts.items())
    (folder / "held.json").write_text(lines, encoding="utf-8")
    byte_tokenizer().save(str(folder / "bytes.tokenizer"))
    source = {"kind": "jsonl", "licence": "CC0", "paths": [f"{folder}/held.json"], "id": "id"}
    tokenizer = {"file": f"{folder}/bytes.tokenizer"}
    values = {"name": "held", "sources": {"old": source}, "tokenizer": tokenizer}
    assert build(BuildConfig.model_validate(values), folder / "held")
    return folder / "held"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for part in range(6):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(60):
                words = " ".join(f"w{(i * 37 + k * (part % 3 + 1)) % 1000}" for k in range(120))
                text = f"{words}\n{NOTICE}" if i % 5 else f"{words}\n{QUESTION}\n{words[::-1]}"
                file.write(json.dumps({"id": f"{part}-{i}", "text": text}) + "\n")
    values = {
        "name": "killed",
        "sources": {
            "text": {
                "kind": "jsonl", "licence": "CC0", "id": "id", "paths": [f"{folder}/*.jsonl"],
            },
            "math": {
                "kind": "docstrings", "licence": "BSD", "profile": "math", "packages": ["rich"],
            },
        },
        "dedup": {"against": [str(held_dataset(folder))], "passages": {}},
        "decontamination": {"benchmarks": [f"quiz={folder}/quiz.json"], "action": "cut"},
        "split": {"val_fraction": 0.05},
        "tokenizer": {"vocab_size": 600},
        "shards": {"shard_tokens": 20_000},
    }  # fmt: skip
    item = {"id": "q", "question": QUESTION, "answer": "the tin toy forge"}
    (folder / "quiz.json").write_text(json.dumps(item), encoding="utf-8")
    path = folder / "build.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return path


def start(config: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline", "build", str(config), "-o", str(output)]
    return subprocess.Popen(
        [*command, "--workers", "2"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(config: Path, output: Path) -> str:
    process = start(config, output)
    text = process.communicate()[0].decode()
    assert process.returncode == 0, text
    return text


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def is_under_way(work: Path, stage: str) -> bool:
    """The stage has its directory, whose key follows the name, and is not done."""
    return any(not (path / "done.json").exists() for path in directories(work, stage))


def directories(work: Path, stage: str) -> list[Path]:
    return [path for path in work.glob("*-*") if fnmatch(path.name.rpartition("-")[0], stage)]


def kill_during(config: Path, output: Path, stage: str, delay_s: float) -> bool:
    """Kill the build `delay_s` after the stage began; returns whether it hit the stage."""
    work = output.with_name(f"{output.name}.work")
    process = start(config, output)
    while process.poll() is None and not is_under_way(work, stage):
        time.sleep(0.001)
    time.sleep(delay_s)
    hit = process.poll() is None and is_under_way(work, stage)
    family: list[int] = []
    if process.poll() is None:
        family = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    while any(map(is_alive, family)):  # for good, if workers outlive the build: pytest's limit
        time.sleep(0.05)
    return hit


def kill_in_the_middle(config: Path, output: Path, stage: str) -> None:
    """Kill the build while it is in the stage; where it got further, undo that and try again."""
    work = output.with_name(f"{output.name}.work")
    while not kill_during(config, output, stage, delay_s=0.0):
        shutil.rmtree(output, ignore_errors=True)
        for directory in directories(work, stage):
            shutil.rmtree(directory)


def descendants(pid: int) -> list[int]:
    """Children of a process, their children and so on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(c) for c in children] + [d for c in children for d in descendants(int(c))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_kill_in_every_stage_then_the_same_bytes(config: Path, tmp_path: Path) -> None:
    finish(config, tmp_path / "clean")
    output = tmp_path / "killed"
    for stage in STAGES:
        kill_in_the_middle(config, output, stage)
    assert not output.exists()
    text = finish(config, output)
    assert "reused: extract-text, extract-math, filter-text" in text
    assert digests(output) == digests(tmp_path / "clean")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kill_at_odd_moments_then_the_same_bytes(config: Path, tmp_path: Path, seed: int) -> None:
    output = tmp_path / "killed"
    for attempt, stage in enumerate(STAGES[seed::3]):
        kill_during(config, output, stage, delay_s=0.02 + 0.07 * ((seed + attempt) % 4))
    finish(config, output)
    finish(config, tmp_path / "clean")
    assert digests(output) == digests(tmp_path / "clean")
    assert "up to date" in finish(config, output)
