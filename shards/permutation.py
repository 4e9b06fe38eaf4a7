"""A keyed permutation of [0, n) by formula: no table, forward and backward, vectorised.

A Feistel network over a * b >= n (a = ceil(sqrt n), b = ceil(n / a)): the two digits of
x = left * b + right are in turn shifted, modulo a and b, by a keyed hash of the other one. Values
that land in [n, a*b), fewer than a of them, are sent through again (cycle walking), so [0, n)
maps onto itself. The hash is the finaliser of MurmurHash3 (xor-shift-multiply), so that the low
bits mix as well as the high ones. Up to 256 elements, where a Feistel network with digits of a
few values is visibly uneven, the elements are sorted by keyed 64-bit numbers instead.

Method: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (generalised
Feistel and cycle walking).
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shards.hashing import canonical_json

ALGORITHM = "feistel-ab-6-murmur3-sort256/1"
"""Name and version, written into every plan; another version is another order."""

_ROUNDS = 6
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S33, _S32 = np.uint64(33), np.uint64(32)
_MAX_N = 1 << 62
_SORTED_BELOW = 256

Ids = npt.NDArray[np.int64]
_U64 = npt.NDArray[np.uint64]


class Permutation:
    """The permutation of [0, n) that belongs to a key.

    Args:
        n: size of the domain, 1 to 2**62.
        key: any JSON values; different keys give unrelated permutations.
    """

    def __init__(self, n: int, *key: int | str) -> None:
        if not 1 <= n <= _MAX_N:
            raise ValueError(f"permutation of {n} elements; 1 to 2**62 are possible")
        self._n = np.uint64(n)
        small = n <= _SORTED_BELOW
        digest = blake3(canonical_json([ALGORITHM, *key])).digest(
            length=8 * (n if small else _ROUNDS)
        )
        self._keys = np.frombuffer(digest, dtype="<u8")
        self._table = np.argsort(self._keys, kind="stable") if small else None
        a = math.isqrt(n - 1) + 1
        self._a, self._b = np.uint64(a), np.uint64(-(-n // a))

    def forward(self, positions: Ids) -> Ids:
        """Elements at `positions`: int64 [k] -> int64 [k]."""
        _check(positions, int(self._n))
        if self._table is not None:
            return self._table[positions]
        return self._walk(positions, self._rounds_forward)

    def backward(self, elements: Ids) -> Ids:
        """Positions of `elements`, the inverse of `forward`: int64 [k] -> int64 [k]."""
        _check(elements, int(self._n))
        if self._table is not None:
            return np.argsort(self._table)[elements]
        return self._walk(elements, self._rounds_backward)

    def _walk(self, values: Ids, once: Callable[[_U64], _U64]) -> Ids:
        out = once(values.astype(np.uint64))
        outside = np.flatnonzero(out >= self._n)
        while len(outside):
            out[outside] = once(out[outside])
            outside = outside[out[outside] >= self._n]
        return out.astype(np.int64)

    def _rounds_forward(self, x: _U64) -> _U64:
        left, right = np.divmod(x, self._b)
        for number, key in enumerate(self._keys):
            if number % 2 == 0:
                left = _add(left, self._shift(right, key, self._a), self._a)
            else:
                right = _add(right, self._shift(left, key, self._b), self._b)
        return left * self._b + right

    def _rounds_backward(self, x: _U64) -> _U64:
        left, right = np.divmod(x, self._b)
        for number in reversed(range(_ROUNDS)):
            key = self._keys[number]
            if number % 2 == 0:
                left = _add(left, self._a - self._shift(right, key, self._a), self._a)
            else:
                right = _add(right, self._b - self._shift(left, key, self._b), self._b)
        return left * self._b + right

    @staticmethod
    def _shift(half: _U64, key: np.uint64, modulus: np.uint64) -> _U64:
        """A keyed hash of `half`, in [0, modulus)."""
        x = mix64(half + key)
        x >>= _S32
        x *= modulus  # both factors are below 2**32
        x >>= _S32
        return x


def mix64(x: _U64) -> _U64:
    """The 64-bit finaliser of MurmurHash3: uint64 [k] -> uint64 [k], a bijection."""
    x = x ^ (x >> _S33)
    x *= _M1
    x ^= x >> _S33
    x *= _M2
    x ^= x >> _S33
    return x


def _add(x: _U64, y: _U64, modulus: np.uint64) -> _U64:
    """(x + y) mod modulus for x < modulus, y <= modulus."""
    out = x + y
    out -= (out >= modulus) * modulus
    return out


def _check(values: Ids, n: int) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < n:
        raise ValueError(f"values outside [0, {n})")
