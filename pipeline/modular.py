"""Arithmetic modulo the prime 2**61 - 1, for compiled code that hashes text by polynomials."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BASE = np.uint64(0x1234_5678_9ABC_DEF1)
"""The polynomials' base."""
_PRIME = np.uint64((1 << 61) - 1)


@njit(inline="always")
def add(a: np.uint64, b: np.uint64) -> np.uint64:
    """The sum of two numbers below the prime."""
    total = a + b
    return total - _PRIME if total >= _PRIME else total


@njit(inline="always")
def times(a: np.uint64, b: np.uint64) -> np.uint64:
    """The product of two numbers below the prime."""
    product: np.uint64 = add(_high(a, b), (a * b) & _PRIME)
    return product


@intrinsic
def _high(typing: Any, a: Any, b: Any) -> Any:
    """The product of two uint64 in 128 bits, without its lowest 61."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(value, wide) for value in values))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 61)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate
