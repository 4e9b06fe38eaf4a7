"""Plans over 10^12 tokens, and a billion tokens through eight readers."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shards.ledger import DIGEST_MODULUS, digest_tokens, digest_windows
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import TokenStream
from tests.helpers import make_dataset
from train.data import RankReader

TRILLION = 10**12
BILLION = 10**9


def trillion_plan() -> Plan:
    """1.2 * 10^12 targets, 300,000 steps of 4 M tokens, five sources, two phases."""
    sizes = {"web": 900, "code": 150, "math": 40, "books": 25, "wiki": 6}
    sources = tuple(
        PlanSource(name, "0" * 32, name, "train", size * TRILLION // 1000 + 7)
        for name, size in sizes.items()
    )
    phases = (
        PlanPhase("pretrain", 270_000, 1024, ("7/10", "3/20", "1/20", "1/20", "1/20")),
        PlanPhase("anneal", 30_000, 512, ("1/10", "3/10", "3/10", "1/10", "1/5"), seq_len=8192),
    )
    return Plan(4096, 11, "shuffled", sources, phases)


def test_a_plan_over_a_trillion_tokens() -> None:
    plan, start = trillion_plan(), time.process_time()
    total = 270_000 * 1024 * 4096 + 30_000 * 512 * 8192
    assert plan.tokens_before(plan.num_steps) == total == 1_258_291_200_000
    accounts = plan.account(plan.num_steps)
    assert sum(account.tokens for account in accounts) == total
    for account, source in zip(accounts, plan.sources, strict=True):
        assert account.unique_tokens <= min(account.tokens, source.tokens - 1)
    for step in (0, 1, 137_511, 269_999, 270_000, 299_999):
        batch, seq_len = plan.step(step), plan.seq_len_at(step)
        assert len(set(zip(batch.source.tolist(), batch.window.tolist(), strict=True))) == len(
            batch.window
        )
        for slot in (0, len(batch.window) - 1):
            number, window = int(batch.source[slot]), int(batch.window[slot])
            assert 0 <= window < plan.layout(number, seq_len).windows
            assert step in plan.steps_reading(number, window, seq_len)
    assert plan.step(137_511).window.tolist() == trillion_plan().step(137_511).window.tolist()
    seconds = time.process_time() - start
    assert seconds < 20, f"{seconds:.1f} s of processor time"


def digests(
    plan: Plan, streams: Sequence[TokenStream], world_size: int, micro_batch: int, steps: range
) -> tuple[list[tuple[int, int]], int]:
    """Both digests of every step, summed over the ranks, and the targets read."""
    readers = [
        RankReader(plan, streams, rank=rank, world_size=world_size, micro_batch=micro_batch)
        for rank in range(world_size)
    ]
    found, targets = [], 0
    for step in steps:
        windows = tokens = 0
        for reader in readers:
            for rows in reader.read(step):
                windows += digest_windows(rows.source, rows.window)
                tokens += digest_tokens(rows.source, rows.window, rows.tokens)
                targets += rows.tokens.shape[0] * (rows.tokens.shape[1] - 1)
        found.append((windows % DIGEST_MODULUS, tokens % DIGEST_MODULUS))
    return found, targets


def soak(folder: Path, targets: int, documents: int) -> float:
    """Read so many targets with one reader and with eight; seconds of both."""
    chance = np.random.default_rng(1)
    texts = [
        bytes(chance.integers(97, 122, 4000).astype(np.uint8)).decode() for _ in range(documents)
    ]
    halves = {"a": texts, "b": texts[: documents // 3]}
    dataset = make_dataset(folder / "d", halves, shard_tokens=1000 * documents)
    streams = [dataset.stream("a"), dataset.stream("b")]
    sources = tuple(PlanSource(s.source, "0", s.source, "train", s.num_tokens) for s in streams)
    seq_len, batch = 1024, 256
    steps = -(-targets // (seq_len * batch))
    phases = (PlanPhase("p", steps, batch, ("2/3", "1/3")),)
    plan = Plan(seq_len, 5, "shuffled", sources, phases)
    start = time.monotonic()
    alone, read_alone = digests(plan, streams, 1, 32, range(steps))
    eight, read_eight = digests(plan, streams, 8, 16, range(steps))
    assert alone == eight
    assert read_alone == read_eight == steps * seq_len * batch >= targets
    return time.monotonic() - start


def test_eight_readers_read_what_one_reads(tmp_path: Path) -> None:
    soak(tmp_path, 2_000_000, documents=30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_billion_tokens_through_eight_readers(tmp_path: Path) -> None:
    seconds = soak(tmp_path, BILLION, documents=3000)
    print(f"\n2 x 10^9 tokens, digests of every step equal: {seconds:.0f} s")
