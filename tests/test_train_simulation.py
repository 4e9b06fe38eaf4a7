"""4,096 ranks over 10^13 tokens: slots are dealt once; small unions equal marked cells."""

import numpy as np
import pytest

from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from train.data import rank_slots
from train.errors import TrainError

RANKS, SEQ_LEN, LONG = 4096, 4096, 32_768
TOKENS = {"web": 9 * 10**12, "code": 10**12, "wiki": 10**9 + 7}


def big_plan() -> Plan:
    sources = tuple(PlanSource(n, "0" * 32, n, "train", size) for n, size in TOKENS.items())
    phases = (
        PlanPhase("long", 2_000, RANKS // 4, ("80", "19", "1"), LONG),
        PlanPhase("main", 580_000, RANKS, ("80", "19", "1")),
    )
    return Plan(SEQ_LEN, 7, "shuffled", sources, phases)


@pytest.mark.parametrize("ranks", [1, 3 * 512, 1024, RANKS])
def test_all_ranks_together_compute_every_slot_once(ranks: int) -> None:
    size = 3 * RANKS
    slots = [rank_slots(size, rank, ranks, 2 if ranks < RANKS else 1) for rank in range(ranks)]
    assert np.array_equal(np.sort(np.concatenate(slots).ravel()), np.arange(size))


def test_slots_are_dealt_as_documented() -> None:
    assert rank_slots(16, 1, 4, 2).tolist() == [[2, 3], [10, 11]]
    with pytest.raises(TrainError, match="cannot be dealt evenly to 5"):
        rank_slots(16, 0, 5, 1)


def test_windows_of_a_step_are_distinct_and_accounts_follow_them() -> None:
    plan = big_plan()
    assert plan.tokens_before(plan.num_steps) > 9 * 10**12
    for step in (0, 1_999, 2_000, 300_001, plan.num_steps - 1):
        batch = plan.step(step)
        keys = batch.source.astype(np.int64) << 48 | batch.window
        assert len(np.unique(keys)) == plan.batch_windows(step)
    first, last = 40_000, 40_040
    counts = [np.bincount(plan.step(s).source, minlength=3) for s in range(first, last)]
    seen = np.sum(counts, axis=0)
    spans = zip(plan.account(last), plan.account(first), strict=True)
    assert seen.tolist() == [after.windows - before.windows for after, before in spans]


def test_unique_tokens_of_two_lengths_equal_marked_cells() -> None:
    plan, wiki = big_plan(), 2
    step = 5_000
    cells = np.zeros(plan.layout(wiki, SEQ_LEN).windows, dtype=bool)
    for span in plan.counters.spans(wiki, step):
        per = span.seq_len // SEQ_LEN
        count = min(span.stop, plan.layout(wiki, span.seq_len).windows)
        found = plan.epoch_order(wiki, span.seq_len, 0).forward(np.arange(count, dtype=np.int64))
        for part in range(per):
            cells[found * per + part] = True
    account = plan.account(step)[wiki]
    assert 0 < cells.sum() < len(cells)
    assert account.unique_tokens == int(cells.sum()) * SEQ_LEN
