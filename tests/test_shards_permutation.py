"""The keyed permutation: a bijection, invertible, stable for ever, as good as random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.permutation import ALGORITHM, Permutation, together
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource

GOLDEN_BIG = [256965572, 785089399, 416831989, 959665358]


@pytest.mark.parametrize("n", [*range(1, 70), 99, 100, 101, 1023, 1024, 1025, 10_000])
def test_every_size_is_a_bijection(n: int) -> None:
    order = Permutation(n, "test", n).forward(np.arange(n))
    assert np.array_equal(np.sort(order), np.arange(n))


@given(n=st.integers(1, 1 << 62), seed=st.integers(0, 1 << 62), share=st.floats(0, 1))
def test_backward_undoes_forward(n: int, seed: int, share: float) -> None:
    position = np.array([min(int(n * share), n - 1)])
    permutation = Permutation(n, seed)
    assert permutation.backward(permutation.forward(position)) == position


def test_order_is_stable_for_ever() -> None:
    assert ALGORITHM == "feistel-ab-6-murmur3-sort256/1"
    assert Permutation(10, "epoch", 0, "web", 0).forward(np.arange(10)).tolist() == [
        3,
        0,
        2,
        1,
        4,
        8,
        6,
        5,
        9,
        7,
    ]
    big = Permutation(10**9, "epoch", 7, "web", 3)
    assert big.forward(np.array([0, 1, 2, 999_999_999])).tolist() == GOLDEN_BIG


@pytest.mark.parametrize(
    ("n", "first"),
    [
        (256, [126, 170, 252, 110, 53, 99]),  # the last that is sorted
        (257, [77, 221, 116, 186, 180, 66]),
        (1024, [837, 349, 816, 91, 369, 90]),  # a square: both digits are below 32
    ],
)
def test_order_at_the_borders_is_stable_for_ever(n: int, first: list[int]) -> None:
    assert Permutation(n, "epoch", 0).forward(np.arange(6)).tolist() == first


def test_neighbours_keys_and_low_bits_are_unrelated() -> None:
    n = 200_000
    order = Permutation(n, "epoch", 1, "web", 0).forward(np.arange(n))
    other = Permutation(n, "epoch", 0, "web", 1).forward(np.arange(n))
    # 5 standard deviations of the statistic under a uniformly random permutation
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(other, order)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.mean(np.abs(np.diff(order))) / (n / 3) - 1) < 5 / np.sqrt(n)
    for modulus in (2, 4):
        same = np.mean(order[4:] % modulus == order[:-4] % modulus)
        assert abs(same - 1 / modulus) < 5 * np.sqrt(1 / modulus / n)


def test_small_domains_reach_all_orders_evenly() -> None:
    """All 24 orders of 4 elements, chi-square with 23 degrees of freedom."""
    keys = 2400
    seen = [tuple(Permutation(4, seed).forward(np.arange(4))) for seed in range(keys)]
    counts = np.unique(np.array(seen), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.sum((counts - keys / 24) ** 2 / (keys / 24)) < 60


def test_values_outside_the_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        Permutation(5, 0).forward(np.array([5]))
    with pytest.raises(ValueError, match="outside"):
        Permutation(5, 0).backward(np.array([-1]))
    with pytest.raises(ValueError, match="outside"):
        Permutation(300, 0).forward(np.array([300]))
    with pytest.raises(ValueError, match="outside"):
        Permutation(300, 0).backward(np.array([-1]))
    for n in (0, 2**62 + 1):
        with pytest.raises(ValueError, match=f"{n} elements"):
            Permutation(n, 0)


def test_a_billion_windows_there_and_back() -> None:
    n = 10**9
    permutation = Permutation(n, "epoch", 3, "web", 1)
    sample = np.random.default_rng(0).integers(0, n, 200_000)
    there = permutation.forward(sample)
    assert np.array_equal(permutation.backward(there), sample)
    assert np.array_equal(permutation.forward(permutation.backward(sample)), sample)
    assert len(np.unique(there)) == len(np.unique(sample))
    # uniform over the domain: chi-square of 100 equal parts, 99 degrees of freedom, 5 deviations
    parts = np.bincount(there // (n // 100), minlength=100)
    expected = len(sample) / 100
    assert np.sum((parts - expected) ** 2 / expected) < 99 + 5 * np.sqrt(2 * 99)


@settings(deadline=None)
@given(
    sizes=st.lists(st.sampled_from((5, 256, 257, 1000, 10**9, 2**62)), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_orders_together_are_what_each_is_alone(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = [Permutation(n, seed, number) for number, n in enumerate(sizes)]
    values = [rng.integers(0, n, rng.integers(0, 6)) for n in sizes]
    there = together(orders, values, forward=True)
    alone = [order.forward(part) for order, part in zip(orders, values, strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(there, alone, strict=True))
    back = together(orders, there, forward=False)
    assert all(np.array_equal(a, b) for a, b in zip(back, values, strict=True))


def test_batches_spread_over_sources_and_streams_as_at_random() -> None:
    """Chi-squares below their mean plus five standard deviations (sqrt of twice the freedom).

    Per batch: parts of the stream its windows come from. Over batches: sources by slot.
    """
    windows, batch, steps, parts = 100_000, 64, 1000, 8
    sources = tuple(PlanSource(n, "id", n, "train", windows * 4 + 1) for n in ("a", "b"))
    plan = Plan(4, 0, "shuffled", sources, (PlanPhase("p", steps, batch, ("1", "1")),))
    spread, slots = 0.0, np.zeros((2, batch))
    for step in range(steps):
        source, window = plan.step(step)
        for number in (0, 1):
            found = np.bincount(window[source == number] * parts // windows, minlength=parts)
            expected = batch / 2 / parts
            spread += float(np.sum((found - expected) ** 2 / expected))
            slots[number] += source == number
    freedom = 2 * steps * (parts - 1)
    assert abs(spread - freedom) < 5 * np.sqrt(2 * freedom)
    # a batch has 32 of each source: slots vary as in drawing without putting back
    by_slot = float(np.sum((slots - steps / 2) ** 2) / (steps / 4)) * (batch - 1) / batch / 2
    assert abs(by_slot - (batch - 1)) < 5 * np.sqrt(2 * (batch - 1))
