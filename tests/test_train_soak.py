"""A long run on machines that come and go: 5,000 steps, 20 restarts, its ledger proved.

Every start has another number of ranks, micro-batch or ZeRO stage than the one before. Every second
one ends in SIGKILL of all its processes, somewhere between two checkpoints.
"""

import json
import random
import signal
import time
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest

from configs.loading import load
from configs.train import TrainConfig
from shards.accounts import read_accounts, verify_run
from tests.ranks import start, train_together
from tests.test_train_run import SEQ_LEN, Bench, losses, metrics
from train.run_dir import plan_run, prepare

STEPS = 5000
RANKS = (1, 2, 1, 4, 1, 2, 3, 1, 2, 1, 4, 1, 2, 1, 3, 1, 2, 1, 2, 1, 1)
WEIGHTS = {1: 350, 2: 150, 3: 60, 4: 60}
"""About how many steps they train: ranks without a core of their own wait for each other."""
SETTINGS = [
    "data.phases.0.length=4000 steps",
    "data.phases.1.length=1000 steps",
    f"data.phases.0.global_batch_tokens={12 * SEQ_LEN}",
    f"data.phases.1.global_batch_tokens={24 * SEQ_LEN}",
    "data.document_mask=true",
    "optimizer.lr=0.002",
    "checkpoint.every_steps=25",
    "validation.every_steps=1000",
]


def move(bench: Bench, run: Path, ranks: int, rng: random.Random) -> None:
    """Prepare the run for a micro-batch that divides both phases' batches, and a stage."""
    sizes = [size for size in (1, 2, 3, 4, 6, 12) if 12 % (size * ranks) == 0]
    chosen = [f"micro_batch={rng.choice(sizes)}", f"engine.zero_stage={rng.randrange(4)}"]
    config = load(bench.config, TrainConfig, [*SETTINGS, *chosen, "checkpoint.keep=2"])
    prepare(run, config, plan_run(config))


def train_and_kill(run: Path, ranks: int, target: int) -> None:
    """Train on and kill all ranks without warning after they have passed a step."""
    with TemporaryFile("w+") as said:
        processes = start(ranks, [f"{run}:{STEPS}"], "tests.ranks", [said] * ranks)
        deadline = time.monotonic() + 900
        while steps_done(run) < target and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        said.seek(0)
        assert steps_done(run) >= target, said.read()


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_five_thousand_steps_with_twenty_restarts(tmp_path: Path) -> None:
    bench, run, rng = Bench(tmp_path), tmp_path / "run", random.Random(20)
    shares = np.cumsum([WEIGHTS[ranks] for ranks in RANKS])
    targets = (shares * STEPS // shares[-1]).tolist()
    for number, (ranks, target) in enumerate(zip(RANKS, targets, strict=True)):
        move(bench, run, ranks, rng)
        if number % 2 and target < STEPS:
            train_and_kill(run, ranks, target)
        else:
            train_together(ranks, [f"{run}:{target}"])
    restarts = [json.loads(line) for line in (run / "restarts.jsonl").open()]
    assert len(restarts) == len(RANKS) - 1 == 20
    assert {line["world_size"] for line in restarts} == {1, 2, 3, 4}
    assert sum(line["discarded_steps"] for line in restarts) > 0
    assert [line["step"] for line in metrics(run)] == list(range(STEPS))
    books = read_accounts(run, None)
    assert list(verify_run(books, tokens=True)) == []
    assert metrics(run)[-1]["tokens"] == SEQ_LEN * (4000 * 12 + 1000 * 24)
    assert metrics(run)[-1]["skipped_steps"] == 0
    assert np.mean(losses(run)[-100:]) < np.mean(losses(run)[:100]) / 3
