"""A long run on machines that come and go: 5,000 steps, 20 restarts, its ledger proved.

Every start has another number of ranks, micro-batch and ZeRO stage; it ends at a set step, by
SIGTERM, or by SIGKILL of all its processes at a random moment.
"""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from shards.accounts import read_accounts, verify_run
from tests.test_train_kill import kill_at_random
from tests.test_train_run import SEQ_LEN, Bench, losses, metrics
from train.launch import EXIT_STOPPED

STEPS, RESTARTS = 5000, 20
SETTINGS = (
    "data.phases.0.length=4000 steps",
    "data.phases.1.length=1000 steps",
    f"data.phases.0.global_batch_tokens={12 * SEQ_LEN}",
    f"data.phases.1.global_batch_tokens={24 * SEQ_LEN}",
    "data.document_mask=true",
    "optimizer.lr=0.002",
    "checkpoint.every_steps=100",
    "checkpoint.keep=2",
    "validation.every_steps=1000",
)


def place(rng: random.Random) -> tuple[str, ...]:
    """Ranks whose product with the micro-batch divides both phases' batches, and a stage."""
    ranks = rng.choice([1, 1, 2, 2, 3, 4])
    micro_batch = rng.choice([size for size in (1, 2, 3, 4, 6, 12) if 12 % (size * ranks) == 0])
    stage = rng.choice([0, 1, 2, 3])
    return ("--ranks", str(ranks), f"micro_batch={micro_batch}", f"engine.zero_stage={stage}")


def wait_until(run: Path, step: int) -> None:
    deadline = time.monotonic() + 600
    while not (run / "metrics.jsonl").exists() or steps_done(run) < step:
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.2)


def steps_done(run: Path) -> int:
    return (run / "metrics.jsonl").read_bytes().count(b"\n")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_steps_with_twenty_restarts(tmp_path: Path) -> None:
    bench, run, rng = Bench(tmp_path), tmp_path / "run", random.Random(20)
    for number in range(RESTARTS):
        target = (number + 1) * STEPS // (RESTARTS + 1) + rng.randrange(-60, 60)
        where = place(rng)
        if number % 3 == 0:
            bench.train(run, *where, *SETTINGS, "--stop-after", str(target))
            continue
        process = bench.start(run, *where, *SETTINGS)
        if number % 3 == 1:
            wait_until(run, target)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == EXIT_STOPPED
        else:
            wait_until(run, target - 50)
            kill_at_random(process, run, target, rng)
    bench.train(run, *place(rng), *SETTINGS)
    restarts = [json.loads(line) for line in (run / "restarts.jsonl").open()]
    assert len(restarts) == RESTARTS
    assert len({line["world_size"] for line in restarts}) == 4
    assert sum(line["discarded_steps"] for line in restarts) > 0
    assert [line["step"] for line in metrics(run)] == list(range(STEPS))
    books = read_accounts(run, None)
    assert list(verify_run(books, tokens=True)) == []
    assert metrics(run)[-1]["tokens"] == SEQ_LEN * (4000 * 12 + 1000 * 24)
    assert metrics(run)[-1]["skipped_steps"] == 0
    assert np.mean(losses(run)[-100:]) < np.mean(losses(run)[:100]) / 3
