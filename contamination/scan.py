"""The scan: documents x index -> hits (five words of a document that are five words of an item).

One pass over the bytes: words, rolling seeds, filter, bucket. The same pass counts the items' words
in one document of eight, chosen by content, for `contamination.surprisal`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contamination.corpus import TokenBatch
from contamination.index import RUN_WORDS, Index, confirm, roll_seeds
from contamination.jit import kernel
from contamination.lookup import find
from contamination.surprisal import Vocabulary, word_number
from contamination.token_words import as_kernel_argument, words_of_tokens
from contamination.words import words_of_document

HIT = np.dtype(
    [
        ("document", np.int32),  # number in the piece
        ("word", np.int32),  # number of the first of the five words in the document
        ("seed", np.int32),  # number of the seed in the index
        ("start", np.int64),  # first byte in the document
        ("end", np.int64),  # one past the last byte
    ]
)
SAMPLE_ONE_IN = np.uint64(8)


@dataclass(frozen=True)
class ScanResult:
    """What a scan of some documents found.

    Attributes:
        hits: HIT [num_hits], by document and word.
        counts: int64 [num_vocabulary], the items' words in the sampled documents.
        sampled_words: all words of the sampled documents.
        words: words of all documents.
    """

    hits: NDArray[np.void]
    counts: NDArray[np.int64]
    sampled_words: int
    words: int


def scan(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], index: Index, vocabulary: Vocabulary
) -> ScanResult:
    """Scans documents ``data[offsets[d]:offsets[d + 1]]``; document numbers count from 0."""
    scratch = _scratch(int(np.diff(offsets).max(initial=0)))
    return _until_it_fits(
        lambda counts, hits: _scan(
            data,
            offsets,
            (index.tables, index.occurrences),
            (vocabulary.words, vocabulary.table, counts),
            scratch,
            hits,
        ),
        vocabulary,
        len(data),
    )


def scan_tokens(batch: TokenBatch, index: Index, vocabulary: Vocabulary) -> ScanResult:
    """Scans documents of tokens; finds what `scan` finds in their bytes."""
    longest = int(batch.sizes.max(initial=0))
    scratch = _scratch(longest)
    buffer = np.empty(longest + 1, np.uint8)
    return _until_it_fits(
        lambda counts, hits: _scan_tokens(
            (batch.tokens, batch.starts, batch.stops, as_kernel_argument(batch.table), buffer),
            (index.tables, index.occurrences),
            (vocabulary.words, vocabulary.table, counts),
            scratch,
            hits,
        ),
        vocabulary,
        int(batch.sizes.sum()),
    )


def _scratch(longest: int) -> tuple[NDArray[Any], ...]:
    """Room for the words of a document of so many bytes: hashes, starts, ends; and for `find`."""
    room = np.empty((7, longest // 2 + 2), np.uint64)
    hashes, start, end, *others = room
    return hashes, start.view(np.int64), end.view(np.int64), *others


def _until_it_fits(
    kernel_of: Callable[[NDArray[np.int64], NDArray[np.void]], tuple[int, int, int]],
    vocabulary: Vocabulary,
    num_bytes: int,
) -> ScanResult:
    capacity = max(1024, num_bytes // 64)
    while True:
        hits = np.empty(capacity, HIT)
        counts = np.zeros(len(vocabulary.words), np.int64)
        found, words, sampled = kernel_of(counts, hits)
        if found <= capacity:
            return ScanResult(hits[:found].copy(), counts, sampled, words)
        capacity = found


@kernel
def _scan(data, offsets, index, vocabulary, scratch, hits):  # type: ignore[no-untyped-def]
    hashes, start, end = scratch[0], scratch[1], scratch[2]
    found, total, sampled = 0, 0, 0
    for document in range(len(offsets) - 1):
        first = offsets[document]
        count = words_of_document(data, first, offsets[document + 1], False, hashes, start, end)
        total += count
        found, took = _look(document, first, count, index, vocabulary, scratch, hits, found)
        sampled += took
    return found, total, sampled


@kernel
def _scan_tokens(batch, index, vocabulary, scratch, hits):  # type: ignore[no-untyped-def]
    tokens, starts, stops, table, buffer = batch
    hashes, start, end = scratch[0], scratch[1], scratch[2]
    found, total, sampled = 0, 0, 0
    for document in range(len(starts)):
        first, stop = starts[document], stops[document]
        count = words_of_tokens(tokens, first, stop, table, buffer, hashes, start, end)
        total += count
        found, took = _look(document, 0, count, index, vocabulary, scratch, hits, found)
        sampled += took
    return found, total, sampled


@kernel
def _look(document, first, count, index, vocabulary, scratch, hits, found):  # type: ignore[no-untyped-def]
    """Looks up the seeds of a document's words; returns hits so far, and words if it is sampled."""
    hashes, start, end, seeds, words, numbers, keys = scratch
    sampled = 0
    if count < RUN_WORDS:
        return found, sampled
    if ((hashes[0] * np.uint64(3)) ^ hashes[count - 1]) % SAMPLE_ONE_IN == np.uint64(0):
        sampled = count
        _count(hashes, count, vocabulary)
    roll_seeds(hashes, count, RUN_WORDS, seeds)
    tables, occurrences = index
    likely = find(seeds, RUN_WORDS - 1, count, tables, words, numbers, keys)
    for c in range(confirm(seeds, words, numbers, likely, tables, occurrences, keys)):
        if found < len(hits):
            last = np.int64(words[c])
            word = last - RUN_WORDS + 1
            hit = hits[found]
            hit.document = document
            hit.word = word
            hit.seed = numbers[c]
            hit.start = start[word] - first
            hit.end = end[last] - first
        found += 1
    return found, sampled


@kernel
def _count(hashes, count, vocabulary):  # type: ignore[no-untyped-def]
    words, table, counts = vocabulary
    for k in range(count):
        number = word_number(hashes[k], words, table)
        if number >= 0:
            counts[number] += 1
