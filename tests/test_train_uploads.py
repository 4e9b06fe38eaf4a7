"""Checkpoints in remote storage: sent, proved, rotated and fetched, with a storage that fails."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from configs.loading import load
from configs.train import TrainConfig
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file
from shards.plan import Plan
from tests.s3_faults import Storage, faulty
from tests.test_train_run import Bench, metrics, weights
from train import checkpoint
from train.checkpoint import (
    Checkpoint,
    begin,
    checkpoint_path,
    finish,
    list_checkpoints,
    prune,
    temporary_path,
)
from train.errors import TrainError
from train.remote_run import RemoteRun
from train.run_dir import plan_run, prepare
from train.uploads import restore, uploading

REMOTE = "s3://runs/checkpoints"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("uploads"))


@pytest.fixture
def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    with faulty(endpoint) as storage:
        monkeypatch.setenv("AWS_ENDPOINT_URL", storage.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").clear_instance_cache()
        files = fsspec.filesystem("s3")
        if files.exists("runs"):
            files.rm("runs", recursive=True)
        files.makedirs("runs", exist_ok=True)
        yield storage
        fsspec.filesystem("s3").clear_instance_cache()


class Run:
    """A RUN directory whose checkpoints are made here, of bytes instead of weights."""

    def __init__(self, bench: Bench, path: Path, *settings: str) -> None:
        overrides = [f"checkpoint.remote={REMOTE}", "checkpoint.keep=2", *settings]
        self.config = load(bench.config, TrainConfig, overrides)
        self.plan: Plan = plan_run(self.config)
        self.path = path

    def prepare(self) -> None:
        prepare(self.path, self.config, self.plan)
        for name in ("ledger.jsonl", "metrics.jsonl"):
            lines = [f'{{"step": {step}, "of": "{name}"}}\n' for step in range(60)]
            (self.path / name).write_text("".join(lines))

    def save(self, step: int) -> None:
        begin(self.path, step)
        folder = temporary_path(self.path, step)
        (folder / "model.safetensors").write_bytes(b"weights" * step)
        write_json_atomic(folder / "state.json", {"step": step})
        finish(self.path, step)

    def restored(self) -> Checkpoint | None:
        return restore(self.path, self.config, self.plan)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_saved_arrives_is_rotated_and_can_be_had_elsewhere(
    bench: Bench, storage: Storage, tmp_path: Path
) -> None:
    here = Run(bench, tmp_path / "here", "checkpoint.milestones=10")
    here.prepare()
    remote = RemoteRun(REMOTE, "tiny")
    with uploading(here.path, here.config, here.plan):
        for step in (10, 24, 27, 30):
            here.save(step)
            until(lambda step=step: step in remote.steps())  # type: ignore[misc]
    assert remote.steps() == [10, 27, 30]  # the newest two, and milestones
    sent = [json.loads(line) for line in (here.path / "uploads.jsonl").read_text().splitlines()]
    assert [(line["step"], line["tries"]) for line in sent] == [(n, 1) for n in (10, 24, 27, 30)]
    assert not (here.path / "checkpoints" / "upload").exists()

    there = Run(bench, tmp_path / "there")
    there.restored()
    assert [c.step for c in list_checkpoints(there.path)] == [30]
    same = checkpoint_path(there.path, 30) / "model.safetensors"
    assert same.read_bytes() == b"weights" * 30
    assert (there.path / "ledger.jsonl").read_bytes().count(b"\n") == 30
    prepare(there.path, there.config, there.plan)  # it is this run, by its own files

    other = Run(bench, tmp_path / "other", "optimizer.lr=0.5")
    with pytest.raises(TrainError, match=r"(?s)tiny holds another run.*optimizer.lr: 0.01 / 0.5"):
        other.restored()
    damaged = f"runs/checkpoints/tiny/step_{30:06d}/checkpoint/model.safetensors"
    fsspec.filesystem("s3").pipe(damaged, b"weighty" * 30)
    third = Run(bench, tmp_path / "third")
    third.restored()  # says so, and takes the one before
    assert [c.step for c in list_checkpoints(third.path)] == [27]


def test_a_fetched_checkpoint_is_hashed_once(
    bench: Bench, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Run(bench, tmp_path / "here"), Run(bench, tmp_path / "there")
    here.prepare()
    with uploading(here.path, here.config, here.plan):
        here.save(3)
    again: list[str] = []  # beside the comparison with the storage's manifest

    def hashed(path: Path) -> str:
        again.append(path.name)
        return blake3_file(path)

    monkeypatch.setattr(checkpoint, "blake3_file", hashed)
    assert there.restored() == (checkpoint_path(there.path, 3), 3)
    assert again == []
    assert there.restored() == (checkpoint_path(there.path, 3), 3)  # that is there already
    assert again == ["model.safetensors", "state.json"]


def test_failures_are_said_and_tried_again(
    bench: Bench, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(bench, tmp_path / "run")
    run.prepare()
    storage.refuse = {"PUT"}
    storage.damage = ["model.safetensors"]
    remote = RemoteRun(REMOTE, "tiny")
    with uploading(run.path, run.config, run.plan):
        run.save(5)
        until(
            lambda: (
                ("PUT", "/runs/checkpoints/tiny/step_000005/checkpoint/COMPLETE")
                in storage.requests
            )
        )
        for step in (6, 7, 8):
            run.save(step)
        prune(run.path, 1)
        storage.refuse = set()
    assert remote.steps() == [8]  # 5 to 7 were overtaken
    said = capsys.readouterr().out
    assert "upload failed, again in 2 s: s3://runs/checkpoints/tiny" in said
    assert "PermissionError" in said
    assert "FlexibleChecksumError" in said  # of the damaged body, which S3's own checksum shows
    line = json.loads((run.path / "uploads.jsonl").read_text())
    assert line["step"] == 8
    assert line["files_there"] >= 1  # COMPLETE had arrived before the damaged file


def test_a_run_ends_although_its_storage_does_not_answer(
    bench: Bench,
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(bench, tmp_path / "run")
    run.prepare()
    monkeypatch.setattr("train.uploads._LONGEST_WAIT_S", 0.01)
    storage.refuse = {"PUT"}
    with uploading(run.path, run.config, run.plan):
        run.save(5)
    assert "checkpoints did NOT all arrive at s3://runs/checkpoints/tiny" in capsys.readouterr().out
    storage.refuse = {"GET", "HEAD"}
    with pytest.raises(TrainError, match="the storage cannot be used"):
        Run(bench, tmp_path / "fresh").restored()
    storage.refuse = set()
    with uploading(run.path, run.config, run.plan):  # the same command again
        pass
    assert RemoteRun(REMOTE, "tiny").steps() == [5]
    assert threading.active_count() < 50


@pytest.mark.slow
def test_a_run_goes_on_where_nothing_is_local(
    bench: Bench, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained to 40 here, from 20 on again elsewhere: the same weights."""
    settings = ["--ranks", "1", "--stop-after", "40", f"checkpoint.remote={REMOTE}"]
    settings += ["checkpoint.every_steps=20", "checkpoint.milestones=20"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    monkeypatch.setattr("tests.test_train_run.ONE_THREAD", environment)
    here, there = tmp_path / "here", tmp_path / "there"
    said = bench.train(here, *settings)
    assert "checkpoint of step 40 is at s3://runs/checkpoints/tiny" in said
    fsspec.filesystem("s3").rm("runs/checkpoints/tiny/step_000040", recursive=True)
    said = bench.train(there, *settings)
    assert "fetching step 20 from s3://runs/checkpoints/tiny" in said
    assert "resuming from the checkpoint after step 20" in said
    assert weights(there, 40) == weights(here, 40)
    assert (there / "ledger.jsonl").read_bytes() == (here / "ledger.jsonl").read_bytes()
    assert [line["loss"] for line in metrics(there)] == [line["loss"] for line in metrics(here)]
    shutil.rmtree(here)
    assert "40 of 240 steps are done already" in bench.train(here, *settings)
