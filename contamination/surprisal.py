"""How much a matched word is worth: its surprisal, in bits, under the audited text's own counts.

Five matching words of "at the end of the" are worth little, five of "chlorophyll absorbs mostly
blue and" a lot. A word seen again in the same field is worth less, a bare number half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contamination.common_words import PRIOR_WORDS, prior_counts
from contamination.jit import kernel
from contamination.sequences import Sequences

MAX_BITS = 18.0
"""No word is worth more: rarity beyond one in 262,144 is mostly misspelling."""
NUMBER_WEIGHT = 0.5
"""Counting sequences and dates match by chance far more often than their rarity says."""


@dataclass(frozen=True)
class Vocabulary:
    """The distinct words of the items, with a hash table for the scan.

    Attributes:
        words: uint64 [num_words], sorted.
        table: int32 [2**k], open addressing; position in `words`, or -1.
    """

    words: NDArray[np.uint64]
    table: NDArray[np.int32]


def vocabulary_of(sequences: Sequences) -> Vocabulary:
    """The vocabulary of the items (decoys are made of the same words)."""
    words = sequences.vocabulary
    table = np.full(1 << (4 * len(words)).bit_length(), -1, np.int32)
    _fill_table(words, table)
    return Vocabulary(words, table)


@kernel
def _fill_table(words, table):  # type: ignore[no-untyped-def]
    for position in range(len(words)):
        slot = np.int64(words[position] & np.uint64(len(table) - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = position


@kernel
def word_number(word, words, table):  # type: ignore[no-untyped-def]
    """Position of a word in the vocabulary, or -1."""
    slot = np.int64(word & np.uint64(len(table) - 1))
    while table[slot] >= 0:
        if words[table[slot]] == word:
            return np.int64(table[slot])
        slot = (slot + 1) & (len(table) - 1)
    return np.int64(-1)


def word_bits(
    sequences: Sequences, vocabulary: Vocabulary, counts: NDArray[np.int64], total: int
) -> NDArray[np.float32]:
    """Bits of every word of every sequence: float32 [num_words].

    Args:
        sequences: the items' words.
        vocabulary: their distinct words.
        counts: int64 [num distinct], occurrences in a sample of the audited text.
        total: words in that sample.
    """
    seen = counts + prior_counts(vocabulary.words)
    surprisal = -np.log2((seen + 0.5) / (total + PRIOR_WORDS))
    bits = np.minimum(surprisal, MAX_BITS).astype(np.float32)
    bits[sequences.numeric] *= NUMBER_WEIGHT
    words = sequences.numbers()
    bits = bits[words]
    _damp_repeats(words, sequences.bounds, bits)
    return bits


@kernel
def _damp_repeats(words, bounds, bits):  # type: ignore[no-untyped-def]
    """Divides the k-th occurrence of a word in a field by k."""
    for item in range(len(bounds)):
        for field in range(3):
            begin, stop = bounds[item, field], bounds[item, field + 1]
            order = np.argsort(words[begin:stop], kind="mergesort")
            repeat = 1
            for k in range(1, len(order)):
                same = words[begin + order[k]] == words[begin + order[k - 1]]
                repeat = repeat + 1 if same else 1
                bits[begin + order[k]] /= np.float32(repeat)


def field_bits(sequences: Sequences, bits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bits of each item's passage, question and answer: float32 [num_items, 3]."""
    sums = np.concatenate([[0.0], np.cumsum(bits, dtype=np.float64)])
    return np.diff(sums[sequences.bounds], axis=1).astype(np.float32)
