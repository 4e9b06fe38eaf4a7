"""How much of a text is repeated phrases, in compiled code; the numbers are datatrove's.

Phrases are compared by 61-bit hashes of what they spell: two different ones of a text of a thousand
words count as equal with a probability of about one in 10^12.
"""

from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.cutting import slot_of
from pipeline.modular import BASE, add, times
from pipeline.word_table import Words
from pipeline.words import MAX_CHUNK

_BLANK = np.uint64(ord(" ") + 1)


def top_phrases(words: Words, shortest: int, longest: int) -> list[int]:
    """Characters in all occurrences of the most frequent phrase of n words, blanks between.

    Of equally frequent ones the first counts, as in datatrove's `find_top_duplicate`.

    Returns:
        For n from `shortest` to `longest`.
    """
    return list(map(int, _count(words.hash, words.length, _powers(), shortest, longest, True)))


def repeated_phrases(words: Words, shortest: int, longest: int) -> list[int]:
    """Characters in phrases of n words that occurred before, as `find_all_duplicate` counts them.

    Words are run together, and what follows a repeated phrase starts behind it.

    Returns:
        For n from `shortest` to `longest`.
    """
    return list(map(int, _count(words.hash, words.length, _powers(), shortest, longest, False)))


@cache
def _powers() -> NDArray[np.uint64]:
    """The hashes' base to the power of a word's length."""
    powers = [1]
    for _ in range(MAX_CHUNK):
        powers.append(powers[-1] * int(BASE) % ((1 << 61) - 1))
    return np.array(powers, np.uint64)


@njit(inline="always")
def _top(
    phrases: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    n: int,
    seen: NDArray[np.uint64],
    counts: NDArray[np.int32],
    firsts: NDArray[np.int32],
) -> int:
    best, most = 0, 0
    for at in range(len(phrases)):
        slot = slot_of(seen, phrases[at])
        if not seen[slot]:
            seen[slot], counts[slot], firsts[slot] = phrases[at], 0, at
        counts[slot] += 1
        count, first = counts[slot], firsts[slot]
        if count > most or (count == most and first < best):
            best, most = first, count
    characters: int = most * (lengths[best : best + n].sum() + n - 1)
    return characters


@njit(inline="always")
def _repeated(
    phrases: NDArray[np.uint64], lengths: NDArray[np.int64], n: int, seen: NDArray[np.uint64]
) -> int:
    characters = at = 0
    while at < len(phrases):
        slot = slot_of(seen, phrases[at])
        if seen[slot]:
            characters += lengths[at : at + n].sum()
            at += n
        else:
            seen[slot] = phrases[at]
            at += 1
    return characters


@kernel
def _count(
    hashes: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    powers: NDArray[np.uint64],
    shortest: int,
    longest: int,
    top: bool,
) -> NDArray[np.int64]:
    room = 4
    while room < 2 * len(hashes):
        room *= 2
    seen, counts, firsts = (
        np.empty(room, np.uint64),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
    )
    characters = np.zeros(longest - shortest + 1, np.int64)
    phrases = hashes.copy()
    for n in range(1, longest + 1):
        phrases = phrases[: max(len(hashes) - n + 1, 0)]
        for at in range(len(phrases) if n > 1 else 0):
            begun = add(times(phrases[at], BASE), _BLANK) if top else phrases[at]
            word = at + n - 1
            phrases[at] = add(times(begun, powers[lengths[word]]), hashes[word])
        if n < shortest:
            continue
        seen[:] = 0
        if not len(phrases):
            continue
        if top:
            characters[n - shortest] = _top(phrases, lengths, n, seen, counts, firsts)
        else:
            characters[n - shortest] = _repeated(phrases, lengths, n, seen)
    return characters
