"""Is a hash among millions, and which one is it: filter, bucket, key.

A blocked filter is asked first (one 64-bit load, about one false pass in a hundred), then a bucket
of the sorted hashes. Of a hash no more need be kept than a *key*: the whole of it, or the 16 bits
after those that name its bucket; then one in some ten thousand answers is wrong, and the caller
must compare what the hash was made of.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel

_FILTER_BITS_PER_HASH = 14
_KEY_BITS = 16
_HALF = np.uint64(32)


class Tables(NamedTuple):
    """Sorted distinct hashes, for `find`.

    Attributes:
        filter: uint64 [num_words], blocked two-bit filter.
        buckets: uint32 [2**k + 1], first hash of each value of the top k bits.
        bucket_shift: bits to drop so that a hash gives its bucket.
        keys: [num_hashes], uint64 whole hashes or uint16 parts of them, in the hashes' order.
        key_left: bits to drop on the left so that a hash gives its key, before
        key_right: those to drop on the right.
    """

    filter: NDArray[np.uint64]
    buckets: NDArray[np.uint32]
    bucket_shift: np.uint64
    keys: NDArray[Any]
    key_left: np.uint64
    key_right: np.uint64


def whole_tables(hashes: NDArray[np.uint64]) -> Tables:
    """Tables that keep the hashes: what `find` says is so. 1 to 2 hashes a bucket."""
    buckets = _buckets_of(hashes, max(8, len(hashes).bit_length() - 1))
    return tables_of(filter_of(hashes), buckets, hashes)


def narrow_tables(hashes: NDArray[np.uint64]) -> Tables:
    """Tables of keys of 16 bits: what `find` says must be checked. 4 to 8 hashes a bucket."""
    bits = max(8, len(hashes).bit_length() - 3)
    return tables_of(filter_of(hashes), _buckets_of(hashes, bits), _keys_of(hashes, bits))


class Postings(NamedTuple):
    """Hashes that may each stand in several places.

    Attributes:
        tables: the distinct hashes, whole.
        first: int64 [num_distinct + 1]; the places of hash h are ``place[first[h]:first[h + 1]]``.
        place: int64 [num_places].
    """

    tables: Tables
    first: NDArray[np.int64]
    place: NDArray[np.int64]


def postings_of(hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> Postings:
    """The places of each hash, in the order given."""
    order = np.argsort(hashes, kind="stable")
    distinct, first = np.unique(hashes[order], return_index=True)
    ends = np.append(first, len(hashes)).astype(np.int64)
    return Postings(whole_tables(distinct), ends, places[order])


def tables_of(
    filter_: NDArray[np.uint64], buckets: NDArray[np.uint32], keys: NDArray[Any]
) -> Tables:
    """The tables of these arrays, which may be memory-mapped."""
    bits = (len(buckets) - 1).bit_length() - 1
    narrow = keys.dtype == np.uint16
    left, right = (bits, 64 - _KEY_BITS) if narrow else (0, 0)
    return Tables(filter_, buckets, np.uint64(64 - bits), keys, np.uint64(left), np.uint64(right))


def _buckets_of(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint32]:
    least = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
    return np.append(np.searchsorted(hashes, least), len(hashes)).astype(np.uint32)


@kernel
def _keys_of(hashes, bits):  # type: ignore[no-untyped-def]
    out = np.empty(len(hashes), np.uint16)
    for k in range(len(hashes)):
        out[k] = (hashes[k] << np.uint64(bits)) >> np.uint64(64 - _KEY_BITS)
    return out


def filter_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Blocked two-bit filter of the hashes: uint64 [num_words]."""
    out = np.zeros(max(1 << 8, len(hashes) * _FILTER_BITS_PER_HASH // 64), np.uint64)
    _fill_filter(hashes, out)
    return out


@kernel
def _fill_filter(hashes, out):  # type: ignore[no-untyped-def]
    words = np.uint64(len(out))
    for value in hashes:
        out[((value >> _HALF) * words) >> _HALF] |= _filter_mask(value)


@njit(inline="always")
def _filter_mask(value):  # type: ignore[no-untyped-def]
    """The two bits that a hash sets in its filter word."""
    one, low = np.uint64(1), np.uint64(63)
    return (one << ((value >> np.uint64(20)) & low)) | (one << ((value >> np.uint64(14)) & low))


@kernel
def find(hashes, first, count, tables, places, numbers, keys):  # type: ignore[no-untyped-def]
    """Which of hashes[first:count] are in the tables; returns how many.

    The memory of the tables is far away. So the work is done in rounds, each a loop of loads that
    do not depend on each other and are under way at the same time: filter, bucket, key.

    Args:
        hashes: overwritten with those that were found.
        first: where to begin.
        count: where to end.
        tables: `Tables`.
        places: uint64, gets the positions in `hashes` of those that were found.
        numbers: uint64, gets their numbers in the tables: of keys alone, of the first that fits.
        keys: uint64, scratch.
    """
    filter_words, buckets, bucket_shift, known, key_left, key_right = tables
    left, one, words = 0, np.uint64(1), np.uint64(len(filter_words))
    for k in range(first, count):
        value = hashes[k]
        mask = _filter_mask(value)
        if (filter_words[((value >> _HALF) * words) >> _HALF] & mask) == mask:
            hashes[left], places[left] = value, k
            left += 1
    for c in range(left):
        numbers[c] = buckets[hashes[c] >> bucket_shift]
    for c in range(left):
        keys[c] = known[min(numbers[c], np.uint64(len(known) - 1))]
    found = 0
    for c in range(left):
        value, at, key = hashes[c], numbers[c], keys[c]
        wanted = (value << key_left) >> key_right
        if key > wanted:
            continue
        stop = np.uint64(buckets[(value >> bucket_shift) + one])
        while key < wanted and at + one < stop:
            at += one
            key = np.uint64(known[at])
        if key == wanted and at < stop:
            hashes[found], places[found], numbers[found] = value, places[c], at
            found += 1
    return found
