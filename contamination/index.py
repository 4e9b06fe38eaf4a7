"""The index: which items hold a given run of five words.

The distinct 64-bit hashes of all five-word runs are sorted; of each, 16 bits are kept, and where it
stands in the items' words. A scan finds candidates by those bits (`contamination.lookup`) and is
sure of them by hashing the item's own five words. The index holds hashes and lengths, never text.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.items import Benchmark
from contamination.jit import kernel
from contamination.lookup import Tables, find, narrow_tables, tables_of
from contamination.sequences import Sequences, sequences_of, with_decoys, word_at
from contamination.words import RECIPE_HASH
from shards.hashing import blake3_json

INDEX_VERSION = 5
ARRAYS = ("filter", "buckets", "keys", "places", "repeated")
"""Of `Index`, beside those of `Sequences`."""
RUN_WORDS = 5
"""Words in a seed. With 5, 98 % of real test questions can be found; with 13 only 72 %."""

_ROLL = np.uint64(0xD6E8FEB86659FD93)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_TWO, _MANY = np.uint32(1 << 30), np.uint32(1 << 31)
"""Set in `Index.places` where a seed has two places, or more."""
_LOW = _TWO - np.uint32(1)
_HINT_WORDS = 32
"""One word of so many has its item noted; the others' are found by walking on from there."""


class Occurrences(NamedTuple):
    """Where seeds stand, for kernels; see `Index`."""

    places: NDArray[np.uint32]
    repeated: NDArray[np.uint32]
    words: NDArray[np.uint8]
    vocabulary: NDArray[np.uint64]
    bounds: NDArray[np.int32]
    item_hints: NDArray[np.int32]


@dataclass(frozen=True)
class Index:
    """Seeds of all items and of as many decoys.

    Attributes:
        key: identity of the index: recipe, seed length and the items' digests.
        num_items: real items; sequences [num_items, 2 * num_items) are their decoys.
        filter: uint64 [num_filter_words], of `contamination.lookup`, as the next two.
        buckets: uint32 [2**k + 1].
        keys: uint16 [num_seeds].
        places: uint32 [num_seeds], first word of a seed in the sequences; of a seed with several
            places `_TWO` or `_MANY` and where they are listed in
        repeated: uint32, for each such seed its places, ascending, and before more than two their
            number.
        sequences: the items' words.
    """

    key: str
    num_items: int
    filter: NDArray[np.uint64]
    buckets: NDArray[np.uint32]
    keys: NDArray[np.uint16]
    places: NDArray[np.uint32]
    repeated: NDArray[np.uint32]
    sequences: Sequences

    @property
    def tables(self) -> Tables:
        """What `contamination.lookup.find` needs."""
        return tables_of(self.filter, self.buckets, self.keys)

    @cached_property
    def occurrences(self) -> Occurrences:
        """What `places_of`, `item_at` and `seed_hash` need."""
        items = self.sequences
        hinted = np.arange(0, len(items.words) + 1, _HINT_WORDS)
        hints = np.searchsorted(items.bounds[:, 3], hinted, side="right").astype(np.int32)
        return Occurrences(
            self.places, self.repeated, items.words, items.vocabulary, items.bounds, hints
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays, and of `Occurrences.item_hints`."""
        arrays = [getattr(self, name) for name in ARRAYS]
        arrays += [getattr(self.sequences, f.name) for f in fields(Sequences)]
        return int(sum(a.nbytes for a in [*arrays, self.occurrences.item_hints]))

    def hashes_of(self, seeds: NDArray[np.int32]) -> NDArray[np.uint64]:
        """The hashes of seeds, given by number."""
        return np.asarray(_hashes_of(seeds, self.occurrences))

    def numbers_of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The numbers of seeds, given by hash; -1 where there is no such seed."""
        return np.asarray(_numbers_of(hashes, self.tables, self.occurrences))


def index_key(benchmarks: list[Benchmark]) -> str:
    """Identity of the index of these benchmarks: equal keys, equal index."""
    names = [[benchmark.name, benchmark.digest] for benchmark in benchmarks]
    return blake3_json([INDEX_VERSION, RECIPE_HASH, RUN_WORDS, names])[:32]


def build_index(benchmarks: list[Benchmark]) -> Index:
    """Builds the index in memory.

    Raises:
        AuditError: more words than an index can number.
    """
    real = sequences_of(benchmarks)
    sequences = with_decoys(real)
    hashes, places = _ordered_seeds(sequences)
    first = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)])
    distinct = hashes[first]
    del hashes  # a large index needs several times its size as it is
    tables = narrow_tables(distinct)
    places, repeated = _packed(places, np.append(first, len(places)))
    return Index(
        key=index_key(benchmarks),
        num_items=len(real),
        filter=tables.filter,
        buckets=tables.buckets,
        keys=tables.keys,
        places=places,
        repeated=repeated,
        sequences=sequences,
    )


def _ordered_seeds(sequences: Sequences) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """All seeds' hashes and places, by hash and place; sorted group by group, to save memory."""
    hashes, places, starts = _grouped(
        *_all_seeds(sequences.numbers(), sequences.vocabulary, sequences.bounds)
    )
    for first, stop in pairwise(starts):
        order = np.argsort(hashes[first:stop], kind="stable")
        hashes[first:stop] = hashes[first:stop][order]
        places[first:stop] = places[first:stop][order]
    return hashes, places


@kernel
def _grouped(hashes, places):  # type: ignore[no-untyped-def]
    """Both, in 256 groups by the hashes' first byte, and where each begins; order is kept."""
    byte, starts = np.uint64(56), np.zeros(257, np.int64)
    for value in hashes:
        starts[np.int64(value >> byte) + 1] += 1
    starts = np.cumsum(starts)
    out, out_places, ends = np.empty_like(hashes), np.empty_like(places), starts.copy()
    for k in range(len(hashes)):
        group = np.int64(hashes[k] >> byte)
        out[ends[group]], out_places[ends[group]] = hashes[k], places[k]
        ends[group] += 1
    return out, out_places, starts


@kernel
def _packed(places, first):  # type: ignore[no-untyped-def]
    """`Index.places` and `Index.repeated` of places by seed; those of seed s begin at first[s]."""
    total = 1  # an empty file cannot be memory-mapped
    for seed in range(len(first) - 1):
        size = first[seed + 1] - first[seed]
        total += 0 if size == 1 else 2 if size == 2 else size + 1
    out, repeated = np.empty(len(first) - 1, np.uint32), np.zeros(total, np.uint32)
    n = 1
    for seed in range(len(first) - 1):
        size = first[seed + 1] - first[seed]
        if size == 1:
            out[seed] = places[first[seed]]
            continue
        out[seed] = np.uint32(n) | (_TWO if size == 2 else _MANY)
        if size > 2:
            repeated[n] = size
            n += 1
        repeated[n : n + size] = places[first[seed] : first[seed + 1]]
        n += size
    return out, repeated


@njit(inline="always")
def places_of(seed, occurrences):  # type: ignore[no-untyped-def]
    """The places of a seed: an array, and from where to where in it."""
    place = occurrences.places[seed]
    at = np.int64(place & _LOW)
    if place < _TWO:
        return occurrences.places, np.int64(seed), np.int64(seed) + 1
    if place < _MANY:
        return occurrences.repeated, at, at + 2
    return occurrences.repeated, at + 1, at + 1 + np.int64(occurrences.repeated[at])


@njit(inline="always")
def item_at(place, occurrences):  # type: ignore[no-untyped-def]
    """The item that holds a word."""
    item = occurrences.item_hints[place // _HINT_WORDS]
    while occurrences.bounds[item, 3] <= place:
        item += 1
    return item


@njit(inline="always")
def seed_hash(place, occurrences):  # type: ignore[no-untyped-def]
    """The hash of the five words from one of `Index.places` on."""
    if place >= _TWO:
        place = occurrences.repeated[(place & _LOW) + (place >> np.uint32(31))]
    value = np.uint64(0)
    for k in range(RUN_WORDS):
        number = word_at(occurrences.words, np.uint64(place) + np.uint64(k))
        value = value * _ROLL + occurrences.vocabulary[number]
    return value * _SPREAD


@kernel
def confirm(values, places, numbers, count, tables, occurrences, keys):  # type: ignore[no-untyped-def]
    """Keeps of `count` results of `find` those whose five words are a seed's; returns how many.

    Args:
        values: their hashes.
        places: their positions, overwritten.
        numbers: their numbers by key, overwritten with the seeds' numbers.
        count: how many there are.
        tables: in which they were found.
        occurrences: of the same index.
        keys: uint64, scratch.
    """
    for c in range(count):  # a round of its own: loads that are under way at the same time
        keys[c] = occurrences.places[numbers[c]]
    found, known = 0, tables.keys
    for c in range(count):
        at, same = numbers[c], seed_hash(np.uint32(keys[c]), occurrences) == values[c]
        while not same and at + np.uint64(1) < len(known) and known[at] == known[at + np.uint64(1)]:
            at += np.uint64(1)
            same = seed_hash(occurrences.places[at], occurrences) == values[c]
        if same:
            values[found], places[found], numbers[found] = values[c], places[c], at
            found += 1
    return found


@kernel
def _hashes_of(seeds, occurrences):  # type: ignore[no-untyped-def]
    out = np.empty(len(seeds), np.uint64)
    for k in range(len(seeds)):
        out[k] = seed_hash(occurrences.places[seeds[k]], occurrences)
    return out


@kernel
def _numbers_of(hashes, tables, occurrences):  # type: ignore[no-untyped-def]
    values, size = hashes.copy(), len(hashes)
    places, numbers, keys = (
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
    )
    out = np.full(size, -1, np.int32)
    found = find(values, 0, size, tables, places, numbers, keys)
    for c in range(confirm(values, places, numbers, found, tables, occurrences, keys)):
        out[places[c]] = numbers[c]
    return out


@kernel
def roll_seeds(words, count, length, out):  # type: ignore[no-untyped-def]
    """Writes the hash of the `length` words that end at each word k >= length - 1 to out[k]."""
    top = np.uint64(1)
    for _ in range(length):
        top *= _ROLL
    value = np.uint64(0)
    for k in range(count):
        value = value * _ROLL + words[k]
        if k >= length:
            value -= words[k - length] * top
        out[k] = value * _SPREAD


@kernel
def _all_seeds(words, vocabulary, bounds):  # type: ignore[no-untyped-def]
    total = 0
    for item in range(len(bounds)):
        total += max(0, bounds[item, 3] - bounds[item, 0] - RUN_WORDS + 1)
    hashes, places = np.empty(total, np.uint64), np.empty(total, np.uint32)
    n = 0
    for item in range(len(bounds)):
        first, length = bounds[item, 0], bounds[item, 3] - bounds[item, 0]
        rolled = np.empty(length, np.uint64)
        roll_seeds(vocabulary[words[first : first + length]], length, RUN_WORDS, rolled)
        for k in range(RUN_WORDS - 1, length):
            hashes[n], places[n] = rolled[k], first + k - RUN_WORDS + 1
            n += 1
    return hashes, places
