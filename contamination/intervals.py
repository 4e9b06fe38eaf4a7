"""Intervals and tests for scores: Wilson, Newcombe, bootstrap, z.

Sources: Wilson, JASA 22 (1927); Newcombe, Statistics in Medicine 17 (1998), method 10; Efron and
Tibshirani, An Introduction to the Bootstrap (1993), percentile interval.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054
"""Of 95 %, both sides."""
_RESAMPLES = 2000
Scores = NDArray[np.float64]


class Mean(NamedTuple):
    """A mean with its 95 % interval."""

    n: int
    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two means with its 95 % interval, z and two-sided p."""

    value: float
    low: float
    high: float
    z: float
    p: float


def mean_of(scores: Scores) -> Mean:
    """The mean of scores [n], n > 0: Wilson where all are 0 or 1, else bootstrap."""
    mean = float(scores.mean())
    if is_binary(scores):
        return Mean(len(scores), mean, *wilson(mean, len(scores)))
    low, high = np.quantile(_resampled(scores, seed=0), [0.025, 0.975])
    return Mean(len(scores), mean, float(low), float(high))


def is_binary(scores: Scores) -> bool:
    """Whether all scores are 0 or 1."""
    return bool(np.all((scores == 0) | (scores == 1)))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n."""
    center = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def difference(left: Scores, right: Scores) -> Difference:
    """mean(left) - mean(right): Newcombe's interval where all are 0 or 1, else bootstrap.

    z is that of two shares with pooled variance (binary), or of Welch's test.
    """
    value = float(left.mean() - right.mean())
    if is_binary(left) and is_binary(right):
        low, high = _newcombe(mean_of(left), mean_of(right))
        pooled = float(np.concatenate([left, right]).mean())
        variance = pooled * (1 - pooled) * (1 / len(left) + 1 / len(right))
    else:
        gaps = _resampled(left, seed=0) - _resampled(right, seed=1)
        low, high = (float(edge) for edge in np.quantile(gaps, [0.025, 0.975]))
        variance = sum(float(side.var(ddof=1)) / len(side) for side in (left, right))
    z = value / math.sqrt(variance) if variance > 0 else 0.0
    return Difference(value, low, high, z, math.erfc(abs(z) / math.sqrt(2)))


def _newcombe(left: Mean, right: Mean) -> tuple[float, float]:
    value = left.mean - right.mean
    low = value - math.hypot(left.mean - left.low, right.high - right.mean)
    return low, value + math.hypot(left.high - left.mean, right.mean - right.low)


def _resampled(scores: Scores, seed: int) -> Scores:
    """Means of samples drawn with replacement; the same ones every time."""
    random = np.random.Generator(np.random.PCG64(seed))
    means = [scores[random.integers(0, len(scores), len(scores))].mean() for _ in range(_RESAMPLES)]
    return np.array(means)
