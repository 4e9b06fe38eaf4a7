"""The index: which items hold a given run of five words.

Keys are the distinct 64-bit hashes of all five-word runs, sorted. A scan asks a small blocked
filter first (one 64-bit load, about one false pass in a hundred), then a bucket of the sorted keys.
Postings give the (item, position) of a key. The index holds hashes and lengths, never text; it is
stored as plain .npy files and memory-mapped, so workers share it.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.items import Benchmark
from contamination.jit import kernel
from contamination.sequences import Sequences, found_in, sequences_of, with_decoys
from contamination.words import RECIPE_HASH
from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_json

INDEX_VERSION = 2
RUN_WORDS = 5
"""Words in a seed. With 5, 98 % of real test questions can be found; with 13 only 72 %."""

_ROLL = np.uint64(0xD6E8FEB86659FD93)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS_PER_KEY = 14


class Tables(NamedTuple):
    """Sorted hashes with what finds one quickly; the argument of `contamination.scan.find`."""

    filter: NDArray[np.uint64]
    filter_shift: np.uint64
    """Bits to drop so that a hash gives its filter word."""
    buckets: NDArray[np.uint32]
    bucket_shift: np.uint64
    """Bits to drop so that a hash gives its bucket."""
    hashes: NDArray[np.uint64]


def tables_of(
    hashes: NDArray[np.uint64], buckets: NDArray[np.uint32], filter_: NDArray[np.uint64]
) -> Tables:
    """The tables of sorted hashes, from the results of `buckets_of` and `filter_of`."""
    filter_bits, bucket_bits = len(filter_).bit_length() - 1, (len(buckets) - 1).bit_length() - 1
    return Tables(
        filter_, np.uint64(64 - filter_bits), buckets, np.uint64(64 - bucket_bits), hashes
    )


@dataclass(frozen=True)
class Index:
    """Seeds of all items and of as many decoys.

    Attributes:
        key: identity of the index: recipe, seed length and the items' digests.
        num_items: real items; sequences [num_items, 2 * num_items) are their decoys.
        seeds: uint64 [num_seeds], sorted.
        buckets: uint32 [2**k + 1], first seed of each value of the top k bits.
        filter: uint64 [2**m], blocked two-bit filter.
        postings: int64 [num_seeds + 1], where the occurrences of a seed begin.
        posting_item: int32 [num_postings].
        posting_position: int32 [num_postings], word of the item's sequence.
        sequences: the items' words.
    """

    key: str
    num_items: int
    seeds: NDArray[np.uint64]
    buckets: NDArray[np.uint32]
    filter: NDArray[np.uint64]
    postings: NDArray[np.int64]
    posting_item: NDArray[np.int32]
    posting_position: NDArray[np.int32]
    sequences: Sequences

    @property
    def tables(self) -> Tables:
        """What `contamination.scan.find` needs."""
        return tables_of(self.seeds, self.buckets, self.filter)


def index_key(benchmarks: list[Benchmark]) -> str:
    """Identity of the index of these benchmarks: equal keys, equal index."""
    names = [[benchmark.name, benchmark.digest] for benchmark in benchmarks]
    return blake3_json([INDEX_VERSION, RECIPE_HASH, RUN_WORDS, names])[:32]


def cached_index(benchmarks: list[Benchmark], cache: Path) -> Index:
    """The index, memory-mapped from `cache`, where it is built at first use."""
    directory = cache / f"index-{index_key(benchmarks)}"
    if not (directory / "index.json").is_file():
        _save(build_index(benchmarks), directory)
    return open_index(directory)


def build_index(benchmarks: list[Benchmark]) -> Index:
    """Builds the index in memory."""
    real = sequences_of(benchmarks)
    sequences = with_decoys(real)
    hashes, items, positions = _all_seeds(sequences.words, sequences.bounds)
    order = np.argsort(hashes, kind="stable")
    seeds, first = np.unique(hashes[order], return_index=True)
    return Index(
        key=index_key(benchmarks),
        num_items=len(real),
        seeds=seeds,
        buckets=buckets_of(seeds),
        filter=filter_of(seeds),
        postings=np.append(first, len(hashes)).astype(np.int64),
        posting_item=items[order],
        posting_position=positions[order],
        sequences=sequences,
    )


def buckets_of(seeds: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """First position of each value of the seeds' top bits: uint32 [2**k + 1]."""
    bits = max(8, len(seeds).bit_length() - 1)
    tops = seeds >> np.uint64(64 - bits)
    return np.searchsorted(tops, np.arange((1 << bits) + 1, dtype=np.uint64)).astype(np.uint32)


def filter_of(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Blocked two-bit filter of the seeds: uint64 [2**m]."""
    words = max(1 << 8, 1 << (len(seeds) * _FILTER_BITS_PER_KEY // 64).bit_length())
    out = np.zeros(words, np.uint64)
    _fill_filter(seeds, np.uint64(64 - (words.bit_length() - 1)), out)
    return out


@kernel
def _fill_filter(seeds, shift, out):  # type: ignore[no-untyped-def]
    for seed in seeds:
        out[seed >> shift] |= filter_mask(seed)


@njit(inline="always")
def filter_mask(seed):  # type: ignore[no-untyped-def]
    """The two bits that a seed sets in its filter word."""
    one, low = np.uint64(1), np.uint64(63)
    return (one << ((seed >> np.uint64(20)) & low)) | (one << ((seed >> np.uint64(14)) & low))


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
def _all_seeds(words, bounds):  # type: ignore[no-untyped-def]
    total = 0
    for item in range(len(bounds)):
        total += max(0, bounds[item, 3] - bounds[item, 0] - RUN_WORDS + 1)
    hashes = np.empty(total, np.uint64)
    items, positions = np.empty(total, np.int32), np.empty(total, np.int32)
    rolled = np.empty(len(words), np.uint64)
    n = 0
    for item in range(len(bounds)):
        length = bounds[item, 3] - bounds[item, 0]
        roll_seeds(words[bounds[item, 0] : bounds[item, 3]], length, RUN_WORDS, rolled)
        for k in range(RUN_WORDS - 1, length):
            hashes[n], items[n], positions[n] = rolled[k], item, k - RUN_WORDS + 1
            n += 1
    return hashes, items, positions


@kernel
def exclusive_seeds(words, bounds):  # type: ignore[no-untyped-def]
    """Which seeds of an item stand in its passage or in its question and answer, not in both.

    A question is often a sentence of its own passage; only exclusive seeds can tell which of the
    two a document holds. bool [num_words], by the first word of the seed; seeds that begin in the
    passage and end in the question are not exclusive.
    """
    out = np.zeros(len(words), np.bool_)
    for item in range(len(bounds)):
        begin, middle, stop = bounds[item, 0], bounds[item, 1], bounds[item, 3]
        passage = np.empty(max(0, middle - begin), np.uint64)
        rest = np.empty(max(0, stop - middle), np.uint64)
        roll_seeds(words[begin:middle], len(passage), RUN_WORDS, passage)
        roll_seeds(words[middle:stop], len(rest), RUN_WORDS, rest)
        passage, rest = passage[RUN_WORDS - 1 :], rest[RUN_WORDS - 1 :]
        out[begin : begin + len(passage)] = ~found_in(passage, rest)
        out[middle : middle + len(rest)] = ~found_in(rest, passage)
    return out


_ARRAYS = ("seeds", "buckets", "filter", "postings", "posting_item", "posting_position")


def _save(index: Index, directory: Path) -> None:
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    arrays |= {f.name: getattr(index.sequences, f.name) for f in fields(Sequences)}
    for name, array in arrays.items():
        with atomic_write(directory / f"{name}.npy") as file:
            np.save(file, array, allow_pickle=False)
    write_json_atomic(
        directory / "index.json", {"key": index.key, "num_items": index.num_items}
    )  # last: its presence says that the rest is whole


def open_index(directory: Path) -> Index:
    """The index in a directory that `cached_index` made, memory-mapped."""
    facts = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    sequences = Sequences(**{f.name: _map(directory, f.name) for f in fields(Sequences)})
    arrays = {name: _map(directory, name) for name in _ARRAYS}
    return Index(facts["key"], facts["num_items"], **arrays, sequences=sequences)


def _map(directory: Path, name: str) -> Any:
    return np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False))
