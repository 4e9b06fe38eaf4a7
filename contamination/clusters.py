"""Hits -> clusters: one place of one document that shares words with one item.

Hits of the same item that lie close together in a document form a cluster. A cluster knows how many
bits of the item's passage, question and answer it covers and its longest unbroken run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contamination.index import RUN_WORDS, Index, item_at, places_of, roll_seeds
from contamination.jit import kernel
from contamination.sequences import Sequences, found_in
from contamination.surprisal import field_bits

CLUSTER = np.dtype(
    [
        ("document", np.int32),
        ("item", np.int32),  # sequence of the index; decoys come after the items
        ("first_word", np.int32),  # words of the document
        ("end_word", np.int32),
        ("start", np.int64),  # bytes of the document
        ("end", np.int64),
        ("item_start", np.int32),  # words of the item
        ("item_end", np.int32),
        ("run", np.int32),  # longest run of words that are consecutive on both sides
        ("passage_bits", np.float32),
        ("question_bits", np.float32),
        ("answer_bits", np.float32),
        ("passage_seeds", np.int32),  # exclusive seeds, see `exclusive_seeds`
        ("question_seeds", np.int32),  # those of question and answer
    ]
)

MAX_PLACES = 100
"""A seed of more places is a stock phrase ("which of the following is") and no evidence."""
_GAP_WORDS = (20, 60)
"""Clusters part at a gap of the item's length, but at least 20 and at most 60 words."""


@dataclass(frozen=True)
class Worth:
    """What the words of the sequences are worth in one corpus.

    Attributes:
        bits: float32 [num_words], from `contamination.surprisal`.
        exclusive: bool [num_words], from `exclusive_seeds`.
        totals: float32 [num_sequences, 3], bits of passage, question and answer.
        question_seeds: int64 [num_sequences], exclusive seeds of question and answer.
    """

    bits: NDArray[np.float32]
    exclusive: NDArray[np.bool_]
    totals: NDArray[np.float32]
    question_seeds: NDArray[np.int64]


def worth_of(index: Index, bits: NDArray[np.float32]) -> Worth:
    """The worth of every item, given the bits of every word.

    Words that stand in stock phrases alone (a template of a hundred questions) are no evidence, so
    they do not count as missing either: they are worth nothing.
    """
    bounds = index.sequences.bounds
    usable = np.zeros(len(bits), np.bool_)
    _mark_usable(index.occurrences, usable)
    bits = np.where(usable, bits, np.float32(0))
    exclusive = exclusive_seeds(index.sequences)
    seeds = np.concatenate([[0], np.cumsum(exclusive, dtype=np.int64)])
    return Worth(
        bits,
        exclusive,
        field_bits(index.sequences, bits),
        seeds[bounds[:, 3]] - seeds[bounds[:, 1]],
    )


@kernel
def _mark_usable(occurrences, usable):  # type: ignore[no-untyped-def]
    for seed in range(len(occurrences.places)):
        places, first, stop = places_of(seed, occurrences)
        if stop - first <= MAX_PLACES:
            for place in places[first:stop]:
                usable[place : place + RUN_WORDS] = True


def clusters_of(
    hits: NDArray[np.void], index: Index, worth: Worth, min_bits: float
) -> NDArray[np.void]:
    """Clusters worth `min_bits` or more in question and answer, or in the passage.

    Args:
        hits: HIT [num_hits], by document and word.
        index: the index they were found with.
        worth: what the items' words are worth.
        min_bits: smaller clusters are dropped.

    Returns:
        CLUSTER [num_clusters], by document, item and word.
    """
    longest = int((index.sequences.bounds[:, 3] - index.sequences.bounds[:, 0]).max(initial=0))
    covered = np.zeros(longest + RUN_WORDS, np.bool_)
    capacity = 4096
    while True:
        out = np.empty(capacity, CLUSTER)
        found = _clusters(
            hits,
            index.occurrences,
            (worth.bits, worth.exclusive),
            np.float32(min_bits),
            covered,
            out,
        )
        if found <= capacity:
            return out[:found].copy()
        capacity = found


@kernel
def _clusters(hits, occurrences, worth, min_bits, covered, out):  # type: ignore[no-untyped-def]
    bits, exclusive = worth
    bounds = occurrences.bounds
    found, begin = 0, 0
    while begin < len(hits):
        stop = begin
        while stop < len(hits) and hits[stop].document == hits[begin].document:
            stop += 1
        items, positions, sources = _expand(hits, begin, stop, occurrences)
        order = np.argsort(items, kind="mergesort")  # stable: words stay in order
        at = 0
        while at < len(order):
            item = items[order[at]]
            length = bounds[item, 3] - bounds[item, 0]
            gap = max(_GAP_WORDS[0], min(length, _GAP_WORDS[1]))
            until = at + 1
            while (
                until < len(order)
                and items[order[until]] == item
                and hits[sources[order[until]]].word - hits[sources[order[until - 1]]].word <= gap
            ):
                until += 1
            chosen = order[at:until]
            at = until
            run, doc_words = _cover(hits, positions, sources, chosen, covered)
            sums = _covered_bits(bounds[item], bits, covered, doc_words)
            if max(sums[1] + sums[2], sums[0]) < min_bits:
                continue
            if found < len(out):
                head, tail = hits[sources[chosen[0]]], hits[sources[chosen[-1]]]
                row = out[found]
                row.document = head.document
                row.item = item
                row.first_word = head.word
                row.end_word = tail.word + RUN_WORDS
                row.start = head.start
                row.end = tail.end
                row.item_start = positions[chosen].min()
                row.item_end = positions[chosen].max() + RUN_WORDS
                row.run = run
                row.passage_bits, row.question_bits, row.answer_bits = sums
                row.passage_seeds, row.question_seeds = _exclusive(
                    bounds[item], exclusive, positions, chosen
                )
            found += 1
        begin = stop
    return found


@kernel
def _expand(hits, begin, stop, occurrences):  # type: ignore[no-untyped-def]
    """(item, position in the item, hit) of every hit of a document; stock phrases left out."""
    total = 0
    for h in range(begin, stop):
        _, low, high = places_of(hits[h].seed, occurrences)
        total += high - low if high - low <= MAX_PLACES else 0
    items = np.empty(total, np.int32)
    positions, sources = np.empty(total, np.int32), np.empty(total, np.int64)
    n = 0
    for h in range(begin, stop):
        places, low, high = places_of(hits[h].seed, occurrences)
        if high - low > MAX_PLACES:
            continue
        for place in places[low:high]:
            item = item_at(place, occurrences)
            items[n], positions[n], sources[n] = item, place - occurrences.bounds[item, 0], h
            n += 1
    return items, positions, sources


@kernel
def _cover(hits, positions, sources, chosen, covered):  # type: ignore[no-untyped-def]
    """Marks the item's covered words; returns the longest run and the document's words used."""
    covered[:] = False
    best, run, doc_words, doc_end = 0, 0, 0, -1
    last_word, last_shift = -2, 0
    for k in chosen:
        word, position = hits[sources[k]].word, positions[k]
        covered[position : position + RUN_WORDS] = True
        if word + RUN_WORDS > doc_end:
            doc_words += word + RUN_WORDS - max(word, doc_end)
            doc_end = word + RUN_WORDS
        run = run + 1 if word == last_word + 1 and word - position == last_shift else RUN_WORDS
        last_word, last_shift = word, word - position
        best = max(best, run)
    return best, doc_words


@kernel
def _exclusive(bounds, exclusive, positions, chosen):  # type: ignore[no-untyped-def]
    """Different exclusive seeds of the passage, and of question and answer, among the chosen."""
    passage, question, last = 0, 0, -1
    for position in np.sort(positions[chosen]):
        if position != last and exclusive[bounds[0] + position]:
            if bounds[0] + position < bounds[1]:
                passage += 1
            else:
                question += 1
        last = position
    return passage, question


@kernel
def _covered_bits(bounds, bits, covered, doc_words):  # type: ignore[no-untyped-def]
    """Covered bits of passage, question and answer.

    An item that repeats itself ("3, 4, 5, 3, 4, 5") can be covered by fewer words of the document
    than it has; the bits are scaled down to what the document really holds.
    """
    passage_words, words = 0, 0
    passage, question, answer = np.float32(0), np.float32(0), np.float32(0)
    for k in range(bounds[0], bounds[3]):
        if covered[k - bounds[0]]:
            if k < bounds[1]:
                passage_words += 1
                passage += bits[k]
            elif k < bounds[2]:
                words += 1
                question += bits[k]
            else:
                words += 1
                answer += bits[k]
    # A question is often a sentence of its own passage, so each side is scaled for itself.
    passage *= np.float32(min(1.0, doc_words / max(passage_words, 1)))
    scale = np.float32(min(1.0, doc_words / max(words, 1)))
    return passage, question * scale, answer * scale


def exclusive_seeds(sequences: Sequences) -> NDArray[np.bool_]:
    """Which seeds of an item stand in its passage or in its question and answer, not in both.

    A question is often a sentence of its own passage; only exclusive seeds can tell which of the
    two a document holds. bool [num_words], by the first word of the seed; seeds that begin in the
    passage and end in the question are not exclusive.
    """
    return np.asarray(_exclusive_seeds(sequences.numbers(), sequences.vocabulary, sequences.bounds))


@kernel
def _exclusive_seeds(words, vocabulary, bounds):  # type: ignore[no-untyped-def]
    out = np.zeros(len(words), np.bool_)
    for item in range(len(bounds)):
        begin, middle, stop = bounds[item, 0], bounds[item, 1], bounds[item, 3]
        passage = np.empty(max(0, middle - begin), np.uint64)
        rest = np.empty(max(0, stop - middle), np.uint64)
        roll_seeds(vocabulary[words[begin:middle]], len(passage), RUN_WORDS, passage)
        roll_seeds(vocabulary[words[middle:stop]], len(rest), RUN_WORDS, rest)
        passage, rest = passage[RUN_WORDS - 1 :], rest[RUN_WORDS - 1 :]
        out[begin : begin + len(passage)] = ~found_in(passage, rest)
        out[middle : middle + len(rest)] = ~found_in(rest, passage)
    return out
