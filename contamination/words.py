"""Words as 64-bit hashes: the one text normalisation that both sides of the audit use.

A single pass over UTF-8 bytes, in numba, with no text object made. The recipe:

* ASCII letters and digits build words, in lower case; everything else in ASCII ends a word;
* apostrophes (straight, curly, ``&#39;``, ``&rsquo;``), combining accents, soft hyphens and
  zero-width characters vanish without ending a word: ``don't`` is ``dont``;
* Latin-1 letters lose their accents, full-width letters and digits become ASCII ones;
* punctuation and symbols of U+2000-U+2BFF, CJK punctuation and emoji end a word;
* Chinese characters and kana are a word each; other scripts keep their bytes;
* short tags (``<b>``, ``</p>``, ``<br/>``) and entities (``&amp;``) end a word and are skipped;
* ``Question:`` and ``Answer:`` are dropped: they label the parts of an item in a prompt;
* single ASCII letters are dropped unless asked for ("A." labels an option), digits are kept.

Any change to what a text hashes to must raise ``RECIPE_VERSION``: indexes, caches and reports carry
`RECIPE_HASH` and are refused when it differs.
"""

from typing import NamedTuple

import numpy as np
from blake3 import blake3
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel
from contamination.word_bytes import (
    BREAK,
    CLASSES,
    COLON,
    ENDS_WORD,
    LATIN_1,
    LETTER,
    NOTHING,
    ONE,
    POLYNOMIAL,
    WHOLE_WORD,
    ZERO,
    beginning_at,
    polynomial,
)

RECIPE_VERSION = 1
RECIPE_HASH = blake3(
    b"tally words %d " % RECIPE_VERSION + CLASSES.tobytes() + LATIN_1.tobytes()
).hexdigest()[:16]

_NINE = np.uint64(ord("9"))
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_LABEL_1, _LABEL_2 = np.uint64(polynomial(b"question")), np.uint64(polynomial(b"answer"))


class Words(NamedTuple):
    """The words of some documents, in order.

    Attributes:
        hash: uint64 [num_words].
        document_offsets: int64 [num_documents + 1]; document d has words [o[d], o[d+1]).
        start: int64 [num_words], first byte of the word in ``data``.
        end: int64 [num_words], one past its last byte.
    """

    hash: NDArray[np.uint64]
    document_offsets: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def hash_words(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], keep_single_letters: bool
) -> Words:
    """Hashes the words of many documents at once.

    Args:
        data: uint8 [num_bytes], the documents' UTF-8 bytes one after the other. Broken UTF-8 is
            taken as it comes and never read past a document's end.
        offsets: int64 [num_documents + 1]; document d is ``data[offsets[d]:offsets[d + 1]]``.
        keep_single_letters: whether "a" and "I" are words.
    """
    offsets = np.ascontiguousarray(offsets, np.int64)
    # A word and its break take two bytes or more, so this never overflows; the pages that are not
    # written are never backed by memory, and resize gives them back without a copy.
    capacity = max(0, int(offsets[-1] - offsets[0])) // 2 + len(offsets)
    hashes = np.empty(capacity, np.uint64)
    start, end = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    document_offsets = np.zeros(len(offsets), np.int64)
    data = np.ascontiguousarray(data, np.uint8)
    count = _fill(data, offsets, keep_single_letters, hashes, start, end, document_offsets)
    for array in (hashes, start, end):
        array.resize(count, refcheck=False)
    return Words(hashes, document_offsets, start, end)


def hash_words_of_texts(texts: list[str], keep_single_letters: bool = False) -> Words:
    """`hash_words` for Python strings (lone surrogates are kept as bytes)."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return hash_words(np.frombuffer(b"".join(encoded), np.uint8), offsets, keep_single_letters)


@kernel
def _fill(data, offsets, keep_single_letters, hashes, start, end, document_offsets):  # type: ignore[no-untyped-def]
    count = 0
    for document in range(len(offsets) - 1):
        count += words_of_document(
            data,
            offsets[document],
            offsets[document + 1],
            keep_single_letters,
            hashes[count:],
            start[count:],
            end[count:],
        )
        document_offsets[document + 1] = count
    return count


@kernel
def words_of_document(data, first, stop, keep_single_letters, hashes, start, end):  # type: ignore[no-untyped-def]
    """Writes the words of ``data[first:stop]`` and returns how many; the kernels' entry."""
    first, stop = np.uint64(first), np.uint64(stop)
    count, value, length, word_start = words_from(
        data, first, stop, keep_single_letters, (ZERO, ZERO, first), hashes, start, end
    )
    if is_word(value, length, keep_single_letters):
        hashes[count], start[count], end[count] = end_word(value, length), word_start, stop
        count += ONE
    return np.int64(count)


@kernel
def words_from(data, i, stop, keep_single_letters, word, hashes, start, end):  # type: ignore[no-untyped-def]
    """Writes the words that end in ``data[i:stop]``.

    Every index is unsigned: numba turns mixed signs into floats, and the check for a negative index
    costs a quarter of the speed.

    Args:
        data: bytes.
        i: where to begin.
        stop: where to end.
        keep_single_letters: whether "a" and "I" are words.
        word: (hash, length, first byte) of a word that has begun before `i`.
        hashes: of the words.
        start: their first bytes.
        end: one past their last.

    Returns:
        How many words, and the word that has not ended, as it came.
    """
    count = ZERO
    value, length, word_start = word
    while i < stop:
        kind = CLASSES[data[i]]
        if kind >= 16:
            if length == ZERO:
                word_start = i
            run_start = i
            while True:  # the loop that most bytes go through
                value = value * POLYNOMIAL + np.uint64(kind)
                i += ONE
                if i >= stop:
                    break
                kind = CLASSES[data[i]]
                if kind < 16:
                    break
            length += i - run_start
            if i >= stop:
                break
        here = i
        if kind in (BREAK, COLON):
            if kind == COLON and is_label(value):
                value, length = ZERO, ZERO
            action, letter = ENDS_WORD, ZERO
            i += ONE
        else:
            action, width, letter = beginning_at(data, i, stop, kind)
            i += width
        if action == LETTER:
            if length == ZERO:
                word_start = here
            value = value * POLYNOMIAL + letter
            # A byte above ASCII counts double: a lone letter of another script is a word.
            length += ONE if letter < np.uint64(128) else np.uint64(2)
        elif action != NOTHING:
            if length > ZERO:
                if is_word(value, length, keep_single_letters):
                    hashes[count], start[count], end[count] = (
                        end_word(value, length),
                        word_start,
                        here,
                    )
                    count += ONE
                value, length = ZERO, ZERO
            if action == WHOLE_WORD:
                hashes[count], start[count], end[count] = _mix(letter), here, i
                count += ONE
    return count, value, length, word_start


@njit(inline="always")
def is_label(value):  # type: ignore[no-untyped-def]
    """Whether a word before a colon labels a part of an item: question, answer."""
    return value in (_LABEL_1, _LABEL_2)


@njit(inline="always")
def is_word(value, length, keep_single_letters):  # type: ignore[no-untyped-def]
    """Whether the bytes read are a word: a lone ASCII letter only if asked for, a digit always."""
    return length > ONE or (length == ONE and (keep_single_letters or value <= _NINE))


@njit(inline="always")
def end_word(value, length):  # type: ignore[no-untyped-def]
    """The hash of a whole word."""
    return _mix(value + length)


@njit(inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    value ^= value >> np.uint64(32)
    value *= _MIX_1
    value ^= value >> np.uint64(29)
    value *= _MIX_2
    return value ^ (value >> np.uint64(32))
