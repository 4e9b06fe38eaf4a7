"""Every item as one sequence of word hashes, passage + question + answer; and its decoy.

A decoy is an item that nobody wrote: pieces of five to eight words taken from other items of the
same benchmark at the same positions. It has the lengths and the phrases of a real item, so how
often decoys are "found" estimates how often a finding is chance.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.errors import AuditError
from contamination.items import Benchmark
from contamination.jit import kernel
from contamination.words import hash_words_of_texts

_GOLDEN, _M1, _M2 = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
_ZERO, _NINE = ord("0"), ord("9")
_MOST_WORDS, _MOST_DIFFERENT_WORDS = (1 << 29) - 1, 1 << 24
"""With the decoys an index has twice as many words, and 30 bits for a place; see `Sequences`."""


@dataclass(frozen=True)
class Sequences:
    """The words of many items.

    Attributes:
        words: uint8 [num_words, 3], numbers of the words of passage, question and answer of each
            item in turn, little-endian.
        vocabulary: uint64 [num_distinct], hashes of the distinct words, sorted.
        numeric: bool [num_distinct], whether a word is digits only.
        bounds: int32 [num_items, 4], where passage, question and answer begin, and the end.
        benchmark: int32 [num_items], number of the benchmark.
    """

    words: NDArray[np.uint8]
    vocabulary: NDArray[np.uint64]
    numeric: NDArray[np.bool_]
    bounds: NDArray[np.int32]
    benchmark: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.bounds)

    def numbers(self) -> NDArray[np.uint32]:
        """The words' numbers, for a pass over all: uint32 [num_words]."""
        out = np.zeros((len(self.words), 4), np.uint8)
        out[:, :3] = self.words
        return out.view("<u4")[:, 0]


@njit(inline="always")
def word_at(words, k):  # type: ignore[no-untyped-def]
    """The number of word k of `Sequences.words`."""
    low, middle, high = words[k, 0], words[k, 1], words[k, 2]
    return np.uint64(low) | np.uint64(middle) << np.uint64(8) | np.uint64(high) << np.uint64(16)


def _in_three_bytes(numbers: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3])


def sequences_of(benchmarks: list[Benchmark]) -> Sequences:
    """Hashes the items of the benchmarks, in order.

    Raises:
        AuditError: more words than an index can number.
    """
    items = [item for benchmark in benchmarks for item in benchmark.items]
    texts = [text for item in items for text in (item.passage, item.question, item.answer)]
    words = hash_words_of_texts(texts)
    starts = words.document_offsets
    bounds = np.stack([starts[0:-1:3], starts[1:-1:3], starts[2:-1:3], starts[3::3]], axis=1)
    _check("words", len(words.hash), _MOST_WORDS)
    sizes = [len(benchmark.items) for benchmark in benchmarks]
    benchmark_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    digits, hashes = _numeric(texts, words.start, words.end), words.hash
    del words, texts  # of a large set they take more memory than what is made of them
    vocabulary, numbers = np.unique(hashes, return_inverse=True)
    _check("different words", len(vocabulary), _MOST_DIFFERENT_WORDS)
    numeric = np.zeros(len(vocabulary), np.bool_)
    numeric[numbers[digits]] = True
    in_bytes = _in_three_bytes(numbers.astype(np.uint32))
    return Sequences(in_bytes, vocabulary, numeric, bounds.astype(np.int32), benchmark_of)


def _check(what: str, number: int, most: int) -> None:
    if number > most:
        raise AuditError(
            f"{number:,} {what} in the benchmarks, an index takes {most:,}: "
            "audit them in several commands"
        )


def _numeric(
    texts: list[str], start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.bool_]:
    data = "".join(texts).encode("utf-8", "surrogatepass")
    return np.asarray(_digits_only(np.frombuffer(data, np.uint8), start, end))


@kernel
def _digits_only(data, start, end):  # type: ignore[no-untyped-def]
    out = np.ones(len(start), np.bool_)
    for word in range(len(start)):
        for byte in data[start[word] : end[word]]:
            out[word] &= _ZERO <= byte <= _NINE
    return out


@kernel
def found_in(values, others):  # type: ignore[no-untyped-def]
    """Which values occur among the others: bool [len(values)]."""
    ordered = np.sort(others)
    out = np.zeros(len(values), np.bool_)
    for k in range(len(values)):
        at = np.searchsorted(ordered, values[k])
        out[k] = at < len(ordered) and ordered[at] == values[k]
    return out


def with_decoys(sequences: Sequences) -> Sequences:
    """The items and, after them, one decoy of each in the same order."""
    decoys = _decoys(sequences.numbers(), sequences.bounds, sequences.benchmark)
    return Sequences(
        np.concatenate([sequences.words, _in_three_bytes(decoys)]),
        sequences.vocabulary,
        sequences.numeric,
        np.concatenate([sequences.bounds, sequences.bounds + len(sequences.words)]),
        np.concatenate([sequences.benchmark, sequences.benchmark]),
    )


@kernel
def _decoys(words, bounds, benchmark):  # type: ignore[no-untyped-def]
    """Same lengths as the items; uint32 [num_words]."""
    out = words.copy()
    first = 0
    state = np.uint64(0)
    for item in range(len(bounds)):
        if benchmark[item] != benchmark[first]:
            first, state = item, np.uint64(0)  # its decoys must not depend on other benchmarks
        last = np.searchsorted(benchmark, benchmark[item], side="right")
        for field in range(3):
            at, stop = bounds[item, field], bounds[item, field + 1]
            position = 0
            while at < stop:
                state, draw = _next(state)
                size = min(stop - at, np.int64(5 + draw % np.uint64(4)))
                source = _donor(bounds, field, position + size, first, last, item, state)
                state, _ = _next(state)
                if source < 0:  # nobody else is that long: the item's own words, backwards
                    out[at : at + size] = words[at : at + size][::-1]
                else:
                    out[at : at + size] = words[source - size : source]
                at += size
                position += size
    return out


@njit(inline="always")
def _next(state):  # type: ignore[no-untyped-def]
    """SplitMix64."""
    state = state + _GOLDEN
    z = (state ^ (state >> np.uint64(30))) * _M1
    z = (z ^ (z >> np.uint64(27))) * _M2
    return state, z ^ (z >> np.uint64(31))


@kernel
def _donor(bounds, field, length, first, last, item, state):  # type: ignore[no-untyped-def]
    """End of the piece [length - size, length) in the field of another item; -1 after 8 tries."""
    for _ in range(8):
        state, draw = _next(state)
        other = first + np.int64(draw % np.uint64(last - first))
        begin, end = bounds[other, field], bounds[other, field + 1]
        if other != item and end - begin >= length:
            return begin + length
    return np.int64(-1)
