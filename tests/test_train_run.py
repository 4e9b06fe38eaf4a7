"""`tally train` for real: DeepSpeed ranks as processes, stopped, killed, resumed, compared.

One tiny dataset and model; each launch costs seconds, so the runs are shared between tests.
"""

import json
import os
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.loading import load
from configs.train import TrainConfig
from shards.hashing import blake3_file
from shards.ledger import read_ledger, verify
from shards.plan_file import load_plan
from shards.reader import TokenStream
from tests.helpers import make_dataset
from tests.ranks import train_together
from train.checkpoint import list_checkpoints, load_model
from train.launch import EXIT_STOPPED
from train.run_data import run_datasets
from train.run_dir import plan_run, prepare

ROOT = Path(__file__).parent.parent
STEPS = 240
# More threads than cores wait for each other; a model this small gains nothing from them.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
SEQ_LEN = 8


def alphabets(count: int, offset: int) -> list[str]:
    """Stretches of the alphabet of different lengths and beginnings: soon learned."""
    letters = string.ascii_lowercase * 3
    starts = [(offset + 7 * number) % 26 for number in range(count)]
    return [letters[start : start + 5 + 11 * start % 35] for start in starts]


def write_config(directory: Path, dataset: Path) -> Path:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {
            "seq_len": SEQ_LEN,
            "sources": {"one": {"dataset": str(dataset)}, "two": {"dataset": str(dataset)}},
            "phases": [
                {
                    "name": "pretrain",
                    "length": f"{STEPS - 60} steps",
                    "global_batch_tokens": 4 * SEQ_LEN,
                    "weights": {"one": 0.75, "two": 0.25},
                },
                {
                    "name": "anneal",
                    "length": "60 steps",
                    "global_batch_tokens": 8 * SEQ_LEN,
                    "weights": {"two": 1},
                },
            ],
        },
        "model": {
            "vocab_size": 257,
            "num_layers": 2,
            "d_model": 32,
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_dim": 8,
            "ffn_dim": 48,
            "max_seq_len": SEQ_LEN,
        },
        "optimizer": {"lr": 0.01, "max_grad_norm": 0.5, "max_skipped_steps": 2},
        "schedule": {"shape": "cosine", "warmup_steps": 10},
        "micro_batch": 1,
        "checkpoint": {"every_steps": 40, "keep": 20},
        "validation": {"every_steps": 100, "windows": 5},
    }
    path = directory / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


class Bench:
    """The tiny dataset and config, and a way to train them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = write_config(directory, directory / "dataset")
        make_dataset(
            directory / "dataset",
            {"one": alphabets(40, 0), "two": alphabets(25, 3)},
            {"one": alphabets(6, 1), "two": alphabets(6, 2)},
            shard_tokens=300,
        )

    def command(self, run: Path, *arguments: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "train",
            "train",
            str(self.config),
            "-o",
            str(run),
            *arguments,
        ]

    def train(self, run: Path, *arguments: str, expect: int = 0) -> str:
        result = subprocess.run(
            self.command(run, *arguments), cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True
        )
        assert result.returncode == expect, result.stdout + result.stderr
        return result.stdout + result.stderr

    def prepare(self, run: Path, *overrides: str) -> None:
        """As `tally train` does before it starts ranks; for `tests.ranks`."""
        config = load(self.config, TrainConfig, list(overrides))
        prepare(run, config, plan_run(config))

    def start(self, run: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(run, *arguments), cwd=ROOT, env=ONE_THREAD, stdout=subprocess.DEVNULL
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Path:
    """Two ranks, micro-batch 1, from beginning to end."""
    run = bench.directory / "straight"
    bench.train(run, "--ranks", "2")
    return run


@pytest.fixture(scope="module")
def interrupted(bench: Bench) -> Path:
    """The same run: asked to stop, then killed without warning, then finished."""
    run = bench.directory / "interrupted"
    process = bench.start(run, "--ranks", "2")
    wait_for_step(run, 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == EXIT_STOPPED
    stopped_at = list_checkpoints(run)[-1].step
    assert len(metrics(run)) == stopped_at

    process = bench.start(run, "--ranks", "2")
    wait_for_step(run, stopped_at + 45)
    for rank in rank_processes(run):
        os.kill(rank, signal.SIGKILL)
    assert process.wait(timeout=120) not in (0, EXIT_STOPPED)

    bench.train(run, "--ranks", "2")
    return run


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in metrics(run)]


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + 180
    while len(metrics(run)) < step:
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.02)


def rank_processes(run: Path) -> list[int]:
    """Process ids of the ranks that train this run, without their launchers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # ended meanwhile
            continue
        launcher = any(word.startswith("deepspeed") for word in words)
        if "worker" in words and str(run) in words and not launcher:
            found.append(int(folder.name))
    return found


def weights(run: Path, step: int = STEPS) -> str:
    return blake3_file(run / "checkpoints" / f"step_{step:06d}" / "model.safetensors")


def distinct_targets(streams: Iterable[TokenStream]) -> set[tuple[bytes, int]]:
    """Every target of whole windows, as a text and a position in it: copies are one target."""
    found = set()
    for stream in streams:
        reached = (stream.num_tokens - 1) // SEQ_LEN * SEQ_LEN
        for row in stream.documents().iter_rows(named=True):
            positions = range(row["token_count"])
            start = row["token_start"]
            found |= {(row["content_hash"], i) for i in positions if 0 < start + i <= reached}
    return found


def test_training_learns_and_proves_what_it_read(straight: Path) -> None:
    lines = metrics(straight)
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert lines[0]["loss"] > 5.4  # ln 257 = 5.55
    assert np.mean(losses(straight)[-20:]) < 1.5
    plan, _ = load_plan(straight / "plan.json")
    streams = {name: dataset.stream(name) for name, dataset in run_datasets(straight).items()}
    differences = list(verify(plan, read_ledger(straight), streams))
    assert differences == [[]] * STEPS
    # Both sources were read more than once: the digests above cross epoch boundaries.
    assert min(lines[-1]["epochs"].values()) > 1
    assert lines[-1]["tokens"] == 180 * 4 * SEQ_LEN + 60 * 8 * SEQ_LEN
    assert lines[-1]["unique_tokens"] == len(distinct_targets(streams.values()))


def test_metrics_hold_what_was_set_and_measured(straight: Path) -> None:
    lines = metrics(straight)
    assert lines[0]["lr"] == pytest.approx(0.001)
    assert lines[9]["lr"] == pytest.approx(0.01)
    assert lines[0]["phase"] == "pretrain"
    assert lines[-1]["phase"] == "anneal"
    assert all(line["grad_norm"] > 0 for line in lines)
    assert max(line["grad_norm"] for line in lines) > 0.5  # reported before clipping
    assert [line["step"] for line in lines if "val_loss" in line] == [99, 199, 239]
    assert set(lines[-1]["val_loss"]) == {"one", "two"}
    # A token is a byte here, but for EOS.
    bits = lines[-1]["val_loss"]["one"] / np.log(2)
    assert bits < lines[-1]["val_bits_per_byte"]["one"] < 1.1 * bits


def test_stopped_and_killed_run_is_bit_identical(straight: Path, interrupted: Path) -> None:
    assert weights(interrupted) == weights(straight)
    assert losses(interrupted) == losses(straight)
    assert (interrupted / "ledger.jsonl").read_bytes() == (straight / "ledger.jsonl").read_bytes()
    restarts = [json.loads(line) for line in (interrupted / "restarts.jsonl").open()]
    assert len(restarts) == 2
    assert restarts[0]["discarded_steps"] == 0  # stopped with a checkpoint
    assert restarts[1]["discarded_steps"] > 0  # killed
    assert not list((interrupted / "checkpoints").glob("tmp-*"))


def test_broken_checkpoints_are_passed_over_and_the_run_ends_the_same(
    bench: Bench, straight: Path
) -> None:
    """A bit flipped in the newest, a file missing in the one before; Ctrl-C in the middle."""
    run = bench.directory / "broken"
    shutil.copytree(straight, run)
    newest, before = (run / "checkpoints" / f"step_{step:06d}" for step in (240, 200))
    content = bytearray((newest / "optimizer_00000.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer_00000.safetensors").write_bytes(content)
    (before / "rng_00001.safetensors").unlink()
    settings = ("--ranks", "2", "checkpoint.keep=1", "checkpoint.milestones=30")
    process = bench.start(run, *settings)
    wait_for_resume(run, 165)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == EXIT_STOPPED
    assert rank_processes(run) == []
    (restart,) = (json.loads(line) for line in (run / "restarts.jsonl").open())
    assert restart["resumed_at"] == 160
    assert restart["discarded_steps"] == 80
    output = bench.train(run, *settings)
    assert "broken checkpoint" not in output  # set aside, they are not looked at again
    assert weights(run) == weights(straight)
    assert losses(run) == losses(straight)
    assert (run / "ledger.jsonl").read_bytes() == (straight / "ledger.jsonl").read_bytes()
    # Milestones stay, 210 beside the newest; those of multiples of 40 were written before.
    assert [checkpoint.step for checkpoint in list_checkpoints(run)] == [120, 180, 210, 240]


def wait_for_resume(run: Path, step: int) -> None:
    """Until a run that goes on from further back has come to a step."""
    deadline = time.monotonic() + 180
    while not (run / "restarts.jsonl").exists():
        assert time.monotonic() < deadline, "the run did not go on"
        time.sleep(0.02)
    wait_for_step(run, step)


@pytest.fixture(scope="module")
def alone(bench: Bench, straight: Path) -> tuple[Path, Path, str]:
    """On one rank, in one process: from the beginning, and on from step 120 of two ranks."""
    whole, moved = bench.directory / "one-rank", bench.directory / "moved"
    shutil.copytree(straight, moved)
    for checkpoint in list_checkpoints(moved):
        if checkpoint.step > 120:
            shutil.rmtree(checkpoint.path)
    bench.prepare(whole, "micro_batch=4")
    bench.prepare(moved, "micro_batch=2")
    return whole, moved, train_together(1, [f"{whole}:{STEPS}", f"{moved}:200"])


def test_one_rank_and_other_micro_batch_train_the_same(
    alone: tuple[Path, Path, str], straight: Path
) -> None:
    run = alone[0]
    assert (run / "ledger.jsonl").read_bytes() == (straight / "ledger.jsonl").read_bytes()
    assert losses(run)[:50] == pytest.approx(losses(straight)[:50], rel=1e-4)
    assert losses(run) == pytest.approx(losses(straight), rel=0.05)
    ours, theirs = metrics(run)[99]["val_loss"], metrics(straight)[99]["val_loss"]
    assert ours == pytest.approx(theirs, rel=0.02)


def test_resume_with_another_number_of_ranks_is_exact_in_data(
    alone: tuple[Path, Path, str], straight: Path
) -> None:
    run, output = alone[1:]
    assert "resuming from the checkpoint after step 120, 120 steps are done again" in output
    expected = (straight / "ledger.jsonl").read_text().splitlines()[:200]
    assert (run / "ledger.jsonl").read_text().splitlines() == expected
    assert losses(run)[:120] == losses(straight)[:120]
    # With the optimizer's state the next steps are the same but for rounding.
    assert losses(run)[120:150] == pytest.approx(losses(straight)[120:150], rel=1e-3)


def test_load_model_gives_the_trained_weights(straight: Path) -> None:
    model, step = load_model(straight)
    assert step == STEPS
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    early, step = load_model(straight, 40)
    assert step == 40
    assert not early.embedding.weight.equal(model.embedding.weight)


def test_resume_refuses_another_config(bench: Bench, straight: Path) -> None:
    output = bench.train(straight, "--ranks", "2", "optimizer.lr=0.02", expect=2)
    assert "holds another run" in output
    assert "optimizer.lr: 0.01 / 0.02" in output


def test_gradients_that_are_not_finite_stop_the_run(bench: Bench) -> None:
    run = bench.directory / "overflow"
    output = bench.train(run, "--ranks", "1", "model.init_std=1e30", expect=2)
    assert "optimizer.max_skipped_steps is 2" in output
    assert "step 0: gradient not finite, it read " in output
    assert f"tally trace {run} --step 2" in output.replace("\n", " ")
    assert [line["skipped_steps"] for line in metrics(run)] == [1, 2, 3]
    assert [line["grad_norm"] for line in metrics(run)] == [None, None, None]


def test_muon_with_owned_matrices(bench: Bench) -> None:
    """Stage 1 computes what stage 0 does, to the bit, and goes on at another number of ranks."""
    muon = "optimizer.muon={lr: 0.02, scale: aspect}"
    whole, owned = bench.directory / "muon0", bench.directory / "muon1"
    bench.prepare(whole, muon)
    bench.prepare(owned, "engine.zero_stage=1", muon)
    train_together(2, [f"{whole}:50", f"{owned}:50", f"{whole}:60"])
    assert weights(owned, 50) == weights(whole, 50)
    assert losses(whole)[49] < losses(whole)[0]
    train_together(1, [f"{owned}:60"])
    # One rank sums gradients in another order, and bfloat16 iterations magnify the last digit.
    assert losses(owned) == pytest.approx(losses(whole), rel=2e-3)
