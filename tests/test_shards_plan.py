"""The plan against a brute-force model: who is read when, how often, and backwards."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.apportion import Apportionment
from shards.errors import DatasetError
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource

WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


def source(name: str, windows: int, seq_len: int = 4, tail: int = 2) -> PlanSource:
    return PlanSource(name, "id-" + name, name, "train", windows * seq_len + 1 + tail)


def make_plan(windows: list[int], phases: list[tuple[int, int, list[int]]], seed: int = 0) -> Plan:
    return Plan(
        seq_len=4,
        seed=seed,
        order="shuffled",
        sources=tuple(source(f"s{i}", w) for i, w in enumerate(windows)),
        phases=tuple(
            PlanPhase(f"p{i}", steps, batch, tuple(str(w) for w in weights))
            for i, (steps, batch, weights) in enumerate(phases)
        ),
    )


@given(weights=WEIGHTS, start=st.integers(0, 10**12))
def test_counts_are_monotone_exact_and_near_their_share(weights: list[int], start: int) -> None:
    share = Apportionment(weights)
    total = sum(weights)
    bound = 1 if sum(w > 0 for w in weights) <= 3 else 2
    for n in range(start, start + 20):
        counts, following = share.counts(n), share.counts(n + 1)
        assert sum(counts) == n
        assert all(b - a in (0, 1) for a, b in zip(counts, following, strict=True))
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - Fraction(n * weight, total)) < bound


def test_counts_of_a_whole_period_are_the_weights() -> None:
    assert Apportionment([5, 3, 2]).counts(10) == [5, 3, 2]
    assert Apportionment([Fraction("0.7"), Fraction("0.2"), Fraction("0.1")]).counts(1000) == [
        700,
        200,
        100,
    ]


@pytest.mark.parametrize("weights", [[-1, 2], [0, 0], [Fraction(-1, 9), 1]])
def test_weights_that_share_nothing_out_are_refused(weights: list[int | Fraction]) -> None:
    with pytest.raises(ValueError, match="need one above zero and none below"):
        Apportionment(weights)


def test_a_small_source_never_gives_a_window_back() -> None:
    """Largest remainder would: weights 6, 6, 2 get 4, 4, 2 of 10 windows but 5, 5, 1 of 11."""
    share = Apportionment([6, 6, 2])
    small = [share.counts(n)[2] for n in range(30)]
    assert all(b >= a for a, b in pairwise(small))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_plan_equals_a_brute_force_recount(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 4))
    windows = data.draw(st.lists(st.integers(1, 30), min_size=number, max_size=number))
    weights = st.lists(st.integers(0, 9), min_size=number, max_size=number).filter(any)
    phase = st.tuples(st.integers(1, 12), st.integers(1, 20), weights)
    plan = make_plan(windows, data.draw(st.lists(phase, min_size=1, max_size=3)))
    read: Counter[tuple[int, int]] = Counter()
    steps_of: dict[tuple[int, int], list[int]] = {}
    for step in range(plan.num_steps):
        batch = plan.step(step)
        assert len(batch.source) == len(batch.window) == plan.batch_windows(step)
        for key in zip(batch.source.tolist(), batch.window.tolist(), strict=True):
            read[key] += 1
            steps_of.setdefault(key, []).append(step)
        for number, account in enumerate(plan.account(step + 1)):
            counts = {w: n for (s, w), n in read.items() if s == number}
            assert account.windows == sum(counts.values())
            assert account.unique_tokens == len(counts) * plan.seq_len
            assert account.epochs == Fraction(sum(counts.values()), windows[number])
            # an epoch reads every window once before any window again
            if counts:
                assert max(counts.values()) <= -(-account.windows // windows[number])
    for (number, window), steps in steps_of.items():
        assert plan.steps_reading(number, window, plan.seq_len).tolist() == steps


def test_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    plan, other = (make_plan([100], [(40, 5, [1])], seed=s) for s in (0, 1))
    epochs = [np.concatenate([plan.step(k).window for k in r]) for r in (range(20), range(20, 40))]
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], np.concatenate([other.step(k).window for k in range(20)]))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(100))


def test_sequential_order_reads_as_stored() -> None:
    values = make_plan([7], [(4, 3, [1])]).to_json() | {"order": "sequential"}
    plan = Plan.from_json(values)
    read = np.concatenate([plan.step(k).window for k in range(4)])
    assert read.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]
    assert plan.steps_reading(0, 1, 4).tolist() == [0, 2]


def test_accounts_written_out() -> None:
    """10 windows of 4, 3 a step: after 4 steps 12 windows, 48 tokens, 40 of them new."""
    account = make_plan([10], [(5, 3, [1])]).account(4)[0]
    assert (account.windows, account.tokens, account.unique_tokens) == (12, 48, 40)
    assert (account.epochs, account.available_tokens, account.tail_tokens) == (
        Fraction(6, 5),
        40,
        2,
    )


def test_a_source_shorter_than_a_window_has_read_no_epochs() -> None:
    plan = make_plan([10, 1], [(5, 3, [1, 0])])
    short = replace(plan.sources[1], tokens=3)
    account = replace(plan, sources=(plan.sources[0], short)).account(4)[1]
    assert (account.windows, account.epochs, account.available_tokens) == (0, Fraction(0), 0)
    assert account.tail_tokens == 2


def test_plan_survives_json_and_refuses_other_versions() -> None:
    plan = make_plan([9, 5], [(3, 4, [2, 1]), (2, 6, [0, 1])])
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).plan_id == plan.plan_id
    with pytest.raises(DatasetError, match="this release replays"):
        Plan.from_json(plan.to_json() | {"algorithm": "other/1"})


def test_targets_are_masked_by_the_plan_or_by_a_source() -> None:
    plan = make_plan([5, 5], [(1, 1, [1, 1])])
    assert not plan.masks_targets
    assert replace(plan, document_mask=True).masks_targets
    half = (plan.sources[0], replace(plan.sources[1], masked=True))
    assert replace(plan, sources=half).masks_targets


def test_steps_outside_the_plan_are_refused() -> None:
    plan = make_plan([9], [(3, 4, [1])])
    with pytest.raises(DatasetError, match="steps 0 to 2"):
        plan.step(3)
    with pytest.raises(DatasetError, match="3 steps"):
        plan.account(4)


def test_billion_windows_are_planned_in_no_time() -> None:
    plan = make_plan([10**9, 10**8], [(3_000_000, 512, [9, 1])])
    batch = plan.step(2_999_999)
    number, window = int(batch.source[0]), int(batch.window[0])
    assert 2_999_999 in plan.steps_reading(number, window, plan.seq_len)
