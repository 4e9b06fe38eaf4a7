"""How much of a text is repeated phrases, in compiled code; the numbers are datatrove's.

Phrases are compared by 61-bit hashes of what they spell: two different ones of a text of a thousand
words count as equal with a probability of about one in 10^12.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.modular import BASE, add, times
from pipeline.word_table import Words

_MIX = np.uint64(0x9E3779B97F4A7C15)
_BLANK = np.uint64(ord(" ") + 1)
_HALF, _ONE = np.uint64(32), np.uint64(1)


def top_phrases(words: Words, longest: int) -> list[int]:
    """Characters in all occurrences of the most frequent phrase of n words, blanks between.

    Of equally frequent ones the first counts, as in datatrove's `find_top_duplicate`.

    Returns:
        For n from 0 to `longest`.
    """
    return list(map(int, _count(words.hash, words.power, words.length, longest, True)))


def repeated_phrases(words: Words, longest: int) -> list[int]:
    """Characters in phrases of n words that occurred before, as `find_all_duplicate` counts them.

    Words are run together, and what follows a repeated phrase starts behind it.

    Returns:
        For n from 0 to `longest`.
    """
    return list(map(int, _count(words.hash, words.power, words.length, longest, False)))


@njit(inline="always")
def _slot(table: NDArray[np.int64], phrases: NDArray[np.uint64], at: int) -> np.uint64:
    """Where in the open hash table the phrase is, or an empty place for it."""
    mask = np.uint64(len(table) - 1)
    slot: np.uint64 = ((phrases[at] * _MIX) >> _HALF) & mask
    while table[slot] >= 0 and phrases[table[slot]] != phrases[at]:
        slot = (slot + _ONE) & mask
    return slot


@njit(nogil=True, cache=True)
def _top(
    phrases: NDArray[np.uint64], lengths: NDArray[np.int64], n: int, table: NDArray[np.int64]
) -> int:
    if len(phrases) == 0:
        return 0
    counts = np.zeros(len(phrases), np.int64)
    for at in range(len(phrases)):
        slot = _slot(table, phrases, at)
        if table[slot] < 0:
            table[slot] = at
        counts[table[slot]] += 1
    best = np.argmax(counts)  # counts stand at first occurrences, so ties go to the first
    characters: int = counts[best] * (lengths[best : best + n].sum() + n - 1)
    return characters


@njit(nogil=True, cache=True)
def _repeated(
    phrases: NDArray[np.uint64], lengths: NDArray[np.int64], n: int, table: NDArray[np.int64]
) -> int:
    characters = at = 0
    while at < len(phrases):
        slot = _slot(table, phrases, at)
        if table[slot] >= 0:
            characters += lengths[at : at + n].sum()
            at += n
        else:
            table[slot] = at
            at += 1
    return characters


@njit(nogil=True, cache=True)
def _count(
    hashes: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    longest: int,
    top: bool,
) -> NDArray[np.int64]:
    room = 4
    while room < 2 * len(hashes):
        room *= 2
    table, characters = np.empty(room, np.int64), np.zeros(longest + 1, np.int64)
    phrases = hashes.copy()
    for n in range(1, longest + 1):
        phrases = phrases[: max(len(hashes) - n + 1, 0)]
        for at in range(len(phrases) if n > 1 else 0):
            begun = add(times(phrases[at], BASE), _BLANK) if top else phrases[at]
            word = at + n - 1
            phrases[at] = add(times(begun, powers[word]), hashes[word])
        table[:] = -1
        if top:
            characters[n] = _top(phrases, lengths, n, table)
        else:
            characters[n] = _repeated(phrases, lengths, n, table)
    return characters
