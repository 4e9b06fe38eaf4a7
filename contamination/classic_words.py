"""Runs of eight words and more that items and documents share, exactly: for `classic`.

One pass marks, for every position of every item, whether the eight words there stand in a
document; how long the longest shared run of an item is; and which of its words lie in a skip-gram
(Llama 2). Hashes propose, and the words themselves are compared before anything is marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contamination.corpus import Batch
from contamination.index import roll_seeds
from contamination.items import Benchmark
from contamination.jit import kernel
from contamination.lookup import Postings, find, postings_of
from contamination.words import hash_words_of_texts, words_of_document

GRAM_WORDS = 8
"""Shortest run that any of the definitions looks at."""
_EXACT_WORDS, _SKIPS = 10, 4  # Llama 2's first words without a difference, and differences


@dataclass(frozen=True)
class WordIndex:
    """The items' words and their 8-grams.

    Attributes:
        words: uint64 [num_words], passage, question and answer of each item in turn.
        bounds: int64 [num_items, 4], where passage, question and answer begin, and the end.
        grams: the hashes of the 8-grams, and the first word of each.
        item: int32 [num_words], the item of a word.
    """

    words: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    grams: Postings
    item: NDArray[np.int32]


@dataclass(frozen=True)
class WordMatches:
    """What some documents hold of the items.

    Attributes:
        seen: bool [num_words], whether the 8-gram that begins there stands in a document.
        longest: int32 [num_items], words of the longest run that both have.
        skip: bool [num_words], whether a word lies in a shared skip-gram.
    """

    seen: NDArray[np.bool_]
    longest: NDArray[np.int32]
    skip: NDArray[np.bool_]

    def merge(self, other: "WordMatches") -> None:
        """Adds what other documents hold; the order does not matter."""
        np.logical_or(self.seen, other.seen, out=self.seen)
        np.maximum(self.longest, other.longest, out=self.longest)
        np.logical_or(self.skip, other.skip, out=self.skip)


def word_index(benchmarks: Sequence[Benchmark]) -> WordIndex:
    """Indexes the items of the benchmarks, in order."""
    items = [item for benchmark in benchmarks for item in benchmark.items]
    texts = [text for item in items for text in (item.passage, item.question, item.answer)]
    words = hash_words_of_texts(texts, keep_single_letters=True)
    starts = words.document_offsets
    bounds = np.stack([starts[0:-1:3], starts[1:-1:3], starts[2:-1:3], starts[3::3]], axis=1)
    lengths = bounds[:, 3] - bounds[:, 0]
    return WordIndex(
        words.hash,
        bounds,
        postings_of(*_grams(words.hash, bounds)),
        np.repeat(np.arange(len(items), dtype=np.int32), lengths),
    )


@kernel
def _grams(words, bounds):  # type: ignore[no-untyped-def]
    total = 0
    for item in range(len(bounds)):
        total += max(0, bounds[item, 3] - bounds[item, 0] - GRAM_WORDS + 1)
    hashes, places = np.empty(total, np.uint64), np.empty(total, np.int64)
    rolled = np.empty(len(words), np.uint64)
    n = 0
    for item in range(len(bounds)):
        begin, length = bounds[item, 0], bounds[item, 3] - bounds[item, 0]
        roll_seeds(words[begin : bounds[item, 3]], length, GRAM_WORDS, rolled)
        for k in range(GRAM_WORDS - 1, length):
            hashes[n], places[n] = rolled[k], begin + k - GRAM_WORDS + 1
            n += 1
    return hashes, places


def no_matches(index: WordIndex) -> WordMatches:
    """Matches of no documents at all."""
    count = len(index.words)
    return WordMatches(
        np.zeros(count, np.bool_), np.zeros(len(index.bounds), np.int32), np.zeros(count, np.bool_)
    )


def match_words(batch: Batch, index: WordIndex) -> WordMatches:
    """What the documents of a batch hold."""
    found = no_matches(index)
    longest = int(np.diff(batch.offsets).max(initial=0)) // 2 + 2
    spans, room = np.empty((2, longest), np.int64), np.empty((5, longest), np.uint64)
    scratch = room[0], spans[0], spans[1], room[1], room[2], room[3], room[4]
    _match(
        batch.data,
        batch.offsets,
        (index.words, index.bounds, index.item),
        index.grams,
        scratch,
        (found.seen, found.longest, found.skip),
    )
    return found


@kernel
def _match(data, offsets, items, postings, scratch, found):  # type: ignore[no-untyped-def]
    tables, first, place = postings
    hashes, start, end, rolled, ends, grams, keys = scratch
    for document in range(len(offsets) - 1):
        count = words_of_document(
            data, offsets[document], offsets[document + 1], True, hashes, start, end
        )
        if count < GRAM_WORDS:
            continue
        roll_seeds(hashes, count, GRAM_WORDS, rolled)
        for c in range(find(rolled, GRAM_WORDS - 1, count, tables, ends, grams, keys)):
            at = np.int64(ends[c]) - GRAM_WORDS + 1
            for posting in range(first[grams[c]], first[grams[c] + np.uint64(1)]):
                _compare(hashes[:count], at, place[posting], items, found)


@kernel
def _compare(document, at, place, items, found):  # type: ignore[no-untyped-def]
    """Compares a document from word `at` with the item from word `place`, and marks."""
    words, bounds, item_of = items
    seen, longest, skip = found
    item = item_of[place]
    begin, left = bounds[item, 0], min(len(document) - at, bounds[item, 3] - place)
    for k in range(GRAM_WORDS):
        if document[at + k] != words[place + k]:
            return
    seen[place] = True
    if at > 0 and place > begin and document[at - 1] == words[place - 1]:
        return  # inside a run that was followed from its beginning
    run = GRAM_WORDS
    while run < left and document[at + run] == words[place + run]:
        run += 1
    longest[item] = max(longest[item], run)
    if run >= _EXACT_WORDS:
        stop, differences, k = run, 0, run
        while k < left:
            if document[at + k] == words[place + k]:
                stop = k + 1
            else:
                differences += 1
                if differences > _SKIPS:
                    break
            k += 1
        if stop > _EXACT_WORDS:
            skip[place : place + stop] = True
