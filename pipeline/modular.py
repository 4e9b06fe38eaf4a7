"""Arithmetic modulo the prime 2**61 - 1, for compiled code that hashes text by polynomials."""

import numpy as np
from numba import njit

BASE = np.uint64(0x1234_5678_9ABC_DEF1)
"""The polynomials' base."""
_PRIME = np.uint64((1 << 61) - 1)
_LOW30, _LOW31 = np.uint64((1 << 30) - 1), np.uint64((1 << 31) - 1)
_S1, _S30, _S31, _S61 = np.uint64(1), np.uint64(30), np.uint64(31), np.uint64(61)


@njit(inline="always")
def add(a: np.uint64, b: np.uint64) -> np.uint64:
    """The sum of two numbers below the prime."""
    total = a + b
    return total - _PRIME if total >= _PRIME else total


@njit(inline="always")
def times(a: np.uint64, b: np.uint64) -> np.uint64:
    """The product of two numbers below the prime, from products that fit into 64 bits."""
    high_a, low_a, high_b, low_b = a >> _S31, a & _LOW31, b >> _S31, b & _LOW31
    middle = low_a * high_b + high_a * low_b
    upper = ((high_a * high_b) << _S1) + (middle >> _S30)
    total = upper + ((middle & _LOW30) << _S31) + low_a * low_b
    product: np.uint64 = add(total >> _S61, total & _PRIME)
    return product
