"""A run killed without warning at random moments, and resumed with other ranks and micro-batches.

Its ledger must be that of a run that was never interrupted, to the byte, and so must its losses
where the ranks were the same. Documents are masked, so the masked targets are compared as well.
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from shards.accounts import read_accounts, verify_run
from tests.ranks import train_together
from tests.test_train_run import Bench, losses, metrics

SETTINGS = ("data.document_mask=true", "checkpoint.every_steps=15", "checkpoint.keep=3")
TWO_RANKS = ("--ranks", "2", "micro_batch=1")
PLACES = (
    TWO_RANKS,
    ("--ranks", "1", "micro_batch=4"),
    ("--ranks", "2", "micro_batch=2"),
    ("--ranks", "1", "micro_batch=1"),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("kill"))


def kill_at_random(
    process: "subprocess.Popen[bytes]", run: Path, last: int, rng: random.Random
) -> None:
    """Kill all processes of a run, somewhere between its start and its last step."""
    target, deadline = rng.randrange(last), time.monotonic() + 180
    while len(metrics(run)) <= target and process.poll() is None:
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.05))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(run) in (folder / "cmdline").read_bytes().decode().split("\0"):
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:  # ended meanwhile
            continue
    process.wait(timeout=60)


def train_through_kills(bench: Bench, run: Path, last: int, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    stop = ("--stop-after", str(last))
    for number in range(kills):
        place = PLACES[number % len(PLACES)]
        process = bench.start(run, *place, *SETTINGS, *stop)
        kill_at_random(process, run, last, rng)
    bench.train(run, *PLACES[kills % len(PLACES)], *SETTINGS, *stop)


def assert_same_run(run: Path, straight: Path, last: int) -> None:
    assert (run / "ledger.jsonl").read_bytes() == (straight / "ledger.jsonl").read_bytes()
    assert [line["step"] for line in metrics(run)] == list(range(last))
    books = read_accounts(run, None)
    assert list(verify_run(books, tokens=True)) == []
    assert books.masked_targets > 0
    early = min(last, 60)  # later on, rounding has grown
    assert losses(run)[:early] == pytest.approx(losses(straight)[:early], rel=1e-3)


def test_killed_and_moved_run_has_the_ledger_of_an_unbroken_one(bench: Bench) -> None:
    straight, run = bench.directory / "straight", bench.directory / "run"
    bench.prepare(straight, "micro_batch=1", *SETTINGS)
    train_together(2, [f"{straight}:90"])
    train_through_kills(bench, run, last=90, kills=3, seed=3)
    assert_same_run(run, straight, 90)
    same_ranks = first_restart(run)
    assert losses(run)[:same_ranks] == losses(straight)[:same_ranks]


def first_restart(run: Path) -> int:
    """Steps that were done with the ranks the run began with, and kept."""
    return int(json.loads((run / "restarts.jsonl").open().readline())["resumed_at"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_many_kills(bench: Bench, seed: int) -> None:
    straight, run = bench.directory / f"whole{seed}", bench.directory / f"killed{seed}"
    bench.train(straight, *TWO_RANKS, *SETTINGS)
    train_through_kills(bench, run, last=240, kills=12, seed=seed)
    assert_same_run(run, straight, 240)


@pytest.mark.slow
def test_kills_at_the_same_ranks_change_no_bit(bench: Bench) -> None:
    straight, run, rng = bench.directory / "same0", bench.directory / "same1", random.Random(5)
    bench.train(straight, *TWO_RANKS, *SETTINGS)
    for _ in range(8):
        kill_at_random(bench.start(run, *TWO_RANKS, *SETTINGS), run, 240, rng)
    bench.train(run, *TWO_RANKS, *SETTINGS)
    assert_same_run(run, straight, 240)
    assert losses(run) == losses(straight)
