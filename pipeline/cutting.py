"""Cuts a text into spaCy's English words, in compiled code, by what is known of its chunks' shapes.

How spaCy cuts a chunk (what stands between white space) depends on kinds of characters, not on
which letters they are, but for exceptions ("can't", "Mr.", "10km"). So chunks are reduced to a
shape first: a run of letters that no exception contains, ending in two small ones, becomes "qq"
or "Qqq"; one of capitals "QQ"; a number of two or more digits "00". "(dogs)," and "(cats)," are
both "(qq),", and spaCy's rules are asked once, about that. Left as they are: letters beside
digits or beside other scripts' letters or before "$" (units, currencies), and whole chunks that
may be an address of the web, since its pattern counts characters.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.characters import ALPHABETIC, DIGIT, LETTER, LOWER, PUNCTUATION, SPACE, WORDLIKE
from pipeline.modular import BASE, add, times
from pipeline.words import MAX_CHUNK

_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF, _ONE = np.uint64(32), np.uint64(1)
_SMALL, _CAPITAL, _DIGIT = ord("q"), ord("Q"), ord("0")
_LATIN_LETTERS = 0xA1  # from here on spaCy's pattern of an address takes all for letters


@njit(inline="always")
def slot_of(keys: NDArray[np.uint64], key: np.uint64) -> np.uint64:
    """Where in the open hash table the key is, or an empty place (0) for it."""
    mask = np.uint64(len(keys) - 1)
    slot: np.uint64 = ((key * _MIX) >> _HALF) & mask
    while keys[slot] and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@njit(inline="always")
def spell(codes: NDArray[np.uint32], start: int, end: int) -> np.uint64:
    """Polynomial of the characters; of words that follow each other it can be composed."""
    value = np.uint64(0)
    for at in range(start, end):
        value = add(times(value, BASE), np.uint64(codes[at]) + _ONE)
    return value


@njit(inline="always")
def _may_be_address(
    codes: NDArray[np.uint32], kinds: NDArray[np.uint8], start: int, end: int
) -> bool:
    """Whether two letters follow a dot, or digits follow two dots."""
    numbers = 0
    for at in range(start, end - 1):
        if codes[at] != ord("."):
            continue
        follower = codes[at + 1]
        numbers += kinds[follower] & DIGIT != 0
        letters = kinds[follower] & LETTER != 0 or follower >= _LATIN_LETTERS
        if letters and at + 2 < end:
            after = codes[at + 2]
            if kinds[after] & LETTER or after >= _LATIN_LETTERS:
                return True
    return numbers > 1


@njit(inline="always")
def _run_end(
    codes: NDArray[np.uint32], kinds: NDArray[np.uint8], start: int, end: int, kind: int
) -> int:
    while start < end and kinds[codes[start]] & kind:
        start += 1
    return start


@njit(inline="always")
def _is_free(
    codes: NDArray[np.uint32], kinds: NDArray[np.uint8], start: int, end: int, a: int, b: int
) -> bool:
    """Whether the run from a to b touches no letters, digits or currency sign in its chunk."""
    if b - a < 2 or (a > start and kinds[codes[a - 1]] & WORDLIKE):
        return False
    return b == end or (not kinds[codes[b]] & WORDLIKE and codes[b] != ord("$"))


@njit(inline="always")
def _write(shape: NDArray[np.uint32], size: int, small: int, capitals: int) -> int:
    for _ in range(capitals):
        shape[size] = _CAPITAL
        size += 1
    for _ in range(small):
        shape[size] = _SMALL
        size += 1
    return size


@njit(inline="always")
def _reduced(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    exceptions: NDArray[np.uint64],
    start: int,
    end: int,
    shape: NDArray[np.uint32],
    origin: NDArray[np.int64],
) -> int:
    """Writes the shape of a chunk, and where in the text each of its characters comes from."""
    literal = _may_be_address(codes, kinds, start, end)
    size, at = 0, start
    while at < end:
        before, kind = size, kinds[codes[at]] & (LETTER | DIGIT)
        stop = _run_end(codes, kinds, at, end, kind) if kind else at + 1
        if kind and not literal and _is_free(codes, kinds, start, end, at, stop):
            if kind & DIGIT:
                shape[size] = shape[size + 1] = _DIGIT
                size += 2
            else:
                run = spell(codes, at, stop)
                if not exceptions[slot_of(exceptions, run)]:
                    size = _placeholder(codes, kinds, at, stop, shape, size)
        if size == before:
            for position in range(at, stop):
                shape[size], origin[size] = codes[position], position
                size += 1
        else:
            for position in range(before, size):
                origin[position] = at + position - before
        at = stop
    origin[size] = end
    return size


@njit(inline="always")
def _placeholder(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    at: int,
    stop: int,
    shape: NDArray[np.uint32],
    size: int,
) -> int:
    """Writes what stands for a run of letters, nothing where its letters matter."""
    first_small = kinds[codes[at]] & LOWER
    if kinds[codes[stop - 1]] & LOWER and kinds[codes[stop - 2]] & LOWER:
        size = _write(shape, size, 2, 0 if first_small else 1)
        return size
    for position in range(at, stop):
        if kinds[codes[position]] & LOWER:
            return size
    size = _write(shape, size, 0, 2)
    return size


@njit(inline="always")
def _keep(
    sums: NDArray[np.int64],
    start: int,
    words: int,
    plain: int,
    characters: int,
    alphabetic: int,
    stops: int,
) -> None:
    sums[0], sums[1], sums[2] = start, words, plain
    sums[3], sums[4], sums[5] = characters, alphabetic, stops


@kernel
def cut(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    exceptions: NDArray[np.uint64],
    stop_words: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    firsts: NDArray[np.int64],
    ends: NDArray[np.int16],
    hashes: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    unknown: NDArray[np.uint32],
    unknown_ends: NDArray[np.int64],
    unknown_keys: NDArray[np.uint64],
    sums: NDArray[np.int64],
) -> int:
    """Cuts a text and measures its words, up to the first shape that is not known.

    What follows an unknown shape is only searched for others. Called again with the same arguments
    once all of them are known, it goes on where it was.

    Args:
        codes: the text.
        kinds: of all characters.
        exceptions: hash table of the runs of letters in the rules' exceptions.
        stop_words: hashes of at most 60 words.
        keys: hash table of the known shapes' hashes.
        firsts: for every place of that table, where in `ends` its entry begins.
        ends: entries: how many words, then where in the shape each of them ends.
        hashes: written: polynomial of every word's characters.
        lengths: written: characters of every word.
        unknown: written: the shapes that are not known, one after the other.
        unknown_ends: written: where each of them ends.
        unknown_keys: written: their hashes.
        sums: zeros at first; written: where to go on; words, words other than punctuation,
            characters in these, words with a letter, a bit for every stop word that occurs.

    Returns:
        Unknown shapes.
    """
    start, words, plain, characters, alphabetic, stops = sums
    strange = strange_size = 0
    shape, origin = np.empty(MAX_CHUNK + 2, np.uint32), np.empty(MAX_CHUNK + 3, np.int64)
    while start < len(codes):
        if kinds[codes[start]] & SPACE:
            start += 1
            continue
        most = min(len(codes), start + MAX_CHUNK)
        end, value = start, np.uint64(0)
        while end < most and kinds[codes[end]] & LETTER:
            value = add(times(value, BASE), np.uint64(codes[end]) + _ONE)
            end += 1
        if (end == most or kinds[codes[end]] & SPACE) and not exceptions[
            slot_of(exceptions, value)
        ]:
            if strange:
                start = end
                continue
            hashes[words], lengths[words] = value, end - start
            words, plain, alphabetic = words + 1, plain + 1, alphabetic + 1
            characters += end - start
            for bit in range(len(stop_words)):
                stops |= (stop_words[bit] == value) << bit
            start = end
            continue
        while end < most and not kinds[codes[end]] & SPACE:
            end += 1
        size = _reduced(codes, kinds, exceptions, start, end, shape, origin)
        key = spell(shape, 0, size)
        slot = slot_of(keys, key)
        if not keys[slot]:
            if not strange:
                _keep(sums, start, words, plain, characters, alphabetic, stops)
            unknown[strange_size : strange_size + size] = shape[:size]
            strange_size += size
            unknown_ends[strange], unknown_keys[strange] = strange_size, key
            strange += 1
        start = end
        if strange:
            continue
        entry, here = firsts[slot], origin[0]
        for word in range(entry + 1, entry + 1 + ends[entry]):
            stop = origin[ends[word]]
            value, kind, symbol = np.uint64(0), 0, PUNCTUATION
            for at in range(here, stop):
                value = add(times(value, BASE), np.uint64(codes[at]) + _ONE)
                kind |= kinds[codes[at]]
                symbol &= kinds[codes[at]]
            hashes[words], lengths[words] = value, stop - here
            words += 1
            if not symbol:
                plain += 1
                characters += stop - here
            alphabetic += kind & ALPHABETIC != 0
            for bit in range(len(stop_words)):
                stops |= (stop_words[bit] == value) << bit
            here = stop
    if not strange:
        _keep(sums, start, words, plain, characters, alphabetic, stops)
    return strange
