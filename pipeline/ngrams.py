"""Word n-grams of documents as 64-bit hashes, and the exact Jaccard similarity of their sets."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from contamination.words import hash_words

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


class NGrams(NamedTuple):
    """Ragged rows of n-gram hashes.

    Attributes:
        hash: uint64 [num_ngrams].
        offsets: int64 [num_documents + 1]; document d has n-grams [o[d], o[d+1]).
    """

    hash: NDArray[np.uint64]
    offsets: NDArray[np.int64]


def ngrams_of(texts: pa.LargeStringArray, n: int) -> NGrams:
    """The word n-grams of each text, in order, repeats included.

    A text of fewer than n words is one n-gram; a text without words has none.

    Args:
        texts: no nulls; read in place, never copied.
        n: words in an n-gram.
    """
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    text_bytes = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    words = hash_words(text_bytes, ends, keep_single_letters=True)
    counts = np.diff(words.document_offsets)
    sizes = np.where(counts > 0, np.maximum(counts - n + 1, 1), 0)
    rows = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(sizes, out=rows[1:])
    out = np.empty(int(rows[-1]), np.uint64)
    _fill(words.hash, words.document_offsets, rows, n, out)
    return NGrams(out, rows)


def sorted_sets(ngrams: NGrams) -> NGrams:
    """The same rows as ascending sets."""
    offsets = np.zeros_like(ngrams.offsets)
    hashes, ends = ngrams.hash.copy(), ngrams.offsets.tolist()
    for start, stop in pairwise(ends):
        hashes[start:stop].sort()  # numpy's sort is three times as fast as a compiled one here
    size = _drop_repeats(hashes, ngrams.offsets, offsets)
    return NGrams(hashes[:size].copy(), offsets)


@njit(nogil=True, cache=True)
def _fill(words, word_offsets, rows, n, out):  # type: ignore[no-untyped-def]
    for document in range(len(rows) - 1):
        first, size = word_offsets[document], rows[document + 1] - rows[document]
        width = min(n, word_offsets[document + 1] - first)
        for k in range(size):
            value = np.uint64(width)
            for j in range(width):
                value = (value ^ words[first + k + j]) * _MULTIPLIER
                value ^= value >> np.uint64(32)
            value *= _MIX
            out[rows[document] + k] = value ^ (value >> np.uint64(29))


@njit(nogil=True, cache=True)
def _drop_repeats(hashes, rows, offsets):  # type: ignore[no-untyped-def]
    """Drop what repeats in ascending rows, close the gaps; returns the total size."""
    size = 0
    for document in range(len(rows) - 1):
        start = size
        for k in range(rows[document], rows[document + 1]):
            value = hashes[k]
            if size == start or value != hashes[size - 1]:
                hashes[size] = value
                size += 1
        offsets[document + 1] = size
    return size


@njit(nogil=True, cache=True)
def copy_rows(values, ends, rows, out, out_ends, out_rows):  # type: ignore[no-untyped-def]
    """Copy ragged rows: row `rows[k]` of `values` becomes row `out_rows[k]` of `out`.

    Args:
        values: the values of all rows.
        ends: int64 [num_rows + 1]; row r is [ends[r], ends[r + 1]).
        rows: int64 [size].
        out: like values.
        out_ends: like ends, of `out`.
        out_rows: int64 [size].
    """
    for k in range(len(rows)):
        start, to = ends[rows[k]], out_ends[out_rows[k]]
        for i in range(ends[rows[k] + 1] - start):
            out[to + i] = values[start + i]


@njit(nogil=True, cache=True)
def jaccard_of_pairs(hashes, offsets, left, right):  # type: ignore[no-untyped-def]
    """Jaccard similarity of pairs of sets.

    Args:
        hashes: uint64 [num_ngrams], ascending within every set.
        offsets: int64 [num_sets + 1].
        left: int64 [num_pairs], index of one set of each pair.
        right: int64 [num_pairs], index of the other.

    Returns:
        float64 [num_pairs]; 0 where both sets are empty.
    """
    out = np.zeros(len(left), np.float64)
    for pair in range(len(left)):
        i, i_end = offsets[left[pair]], offsets[left[pair] + 1]
        j, j_end = offsets[right[pair]], offsets[right[pair] + 1]
        total, common = (i_end - i) + (j_end - j), 0
        while i < i_end and j < j_end:
            a, b = hashes[i], hashes[j]
            common += a == b
            i += a <= b
            j += b <= a
        if total:
            out[pair] = common / (total - common)
    return out
