"""The keyed permutation: a bijection, invertible, stable for ever, as good as random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.permutation import ALGORITHM, Permutation

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
    with pytest.raises(ValueError, match="0 elements"):
        Permutation(0, 0)
