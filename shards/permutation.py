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
from collections.abc import Sequence
from typing import NamedTuple

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
_Numbers = np.uint64 | _U64


class Permutation:
    """The permutation of [0, n) that belongs to a key.

    Args:
        n: size of the domain, 1 to 2**62.
        key: any JSON values; different keys give unrelated permutations.
    """

    def __init__(self, n: int, *key: int | str) -> None:
        if not 1 <= n <= _MAX_N:
            raise ValueError(f"permutation of {n} elements; 1 to 2**62 are possible")
        small = n <= _SORTED_BELOW
        digest = blake3(canonical_json([ALGORITHM, *key])).digest(
            length=8 * (n if small else _ROUNDS)
        )
        keys = np.frombuffer(digest, dtype="<u8")
        self.n = n
        self._table = np.argsort(keys, kind="stable") if small else None
        a = math.isqrt(n - 1) + 1
        self.network = _Network(np.uint64(n), np.uint64(a), np.uint64(-(-n // a)), keys)

    def forward(self, positions: Ids) -> Ids:
        """Elements at `positions`: int64 [k] -> int64 [k]."""
        if self._table is not None:
            _check(positions, self.n)
            return self._table[positions]
        return self.network.walk(positions, forward=True)

    def backward(self, elements: Ids) -> Ids:
        """Positions of `elements`, the inverse of `forward`: int64 [k] -> int64 [k]."""
        if self._table is not None:
            _check(elements, self.n)
            return np.argsort(self._table)[elements]
        return self.network.walk(elements, forward=False)

    @property
    def is_table(self) -> bool:
        """Whether it is small enough to be a table."""
        return self._table is not None


def together(orders: Sequence[Permutation], values: Sequence[Ids], *, forward: bool) -> list[Ids]:
    """What `forward` or `backward` of each order gives for its values, in one go.

    A call costs some 60 microseconds however few the values are: so do all of these together.
    """
    if len(orders) < 2 or any(order.is_table for order in orders):
        pairs = zip(orders, values, strict=True)
        return [o.forward(v) if forward else o.backward(v) for o, v in pairs]
    counts = [len(part) for part in values]
    networks = [order.network for order in orders]
    keys = np.repeat(np.stack([network.keys for network in networks], axis=1), counts, axis=1)
    n, a, b = (np.repeat([getattr(net, f) for net in networks], counts) for f in ("n", "a", "b"))
    out = _Network(n, a, b, keys).walk(np.concatenate(values), forward=forward)
    return np.split(out, np.cumsum(counts)[:-1])


class _Network(NamedTuple):
    """A Feistel network: of one permutation, or with the numbers of each value's own."""

    n: _Numbers
    a: _Numbers
    b: _Numbers
    keys: _U64
    """One a round: [rounds], or [rounds, values]."""

    def walk(self, values: Ids, *, forward: bool) -> Ids:
        """Send values through until they are inside the domain again."""
        out = values.astype(np.uint64)  # negative ones become huge
        if (out >= self.n).any():
            raise ValueError(f"values outside [0, {np.min(self.n)})")
        out = self._once(out, forward)
        outside = np.flatnonzero(out >= self.n)
        while len(outside):
            again = self._of(outside)._once(out[outside], forward)
            out[outside] = again
            outside = outside[again >= self._of(outside).n]
        return out.astype(np.int64)

    def _of(self, chosen: npt.NDArray[np.intp]) -> "_Network":
        if self.keys.ndim == 1:
            return self
        n, a, b = (np.asarray(numbers)[chosen] for numbers in (self.n, self.a, self.b))
        return _Network(n, a, b, self.keys[:, chosen])

    def _once(self, x: _U64, forward: bool) -> _U64:
        left, right = np.divmod(x, self.b)
        for number in range(_ROUNDS) if forward else reversed(range(_ROUNDS)):
            key = self.keys[number]
            if number % 2 == 0:
                shift = _shift(right, key, self.a)
                left = _add(left, shift if forward else self.a - shift, self.a)
            else:
                shift = _shift(left, key, self.b)
                right = _add(right, shift if forward else self.b - shift, self.b)
        return left * self.b + right


def _shift(half: _U64, key: _Numbers, modulus: _Numbers) -> _U64:
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


def _add(x: _U64, y: _U64, modulus: _Numbers) -> _U64:
    """(x + y) mod modulus for x < modulus, y <= modulus."""
    out = x + y
    out -= (out >= modulus) * modulus
    return out


def _check(values: Ids, n: int) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < n:
        raise ValueError(f"values outside [0, {n})")
