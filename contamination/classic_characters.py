"""Substrings of 50 characters that items and documents share, exactly: GPT-4's rule in `classic`.

Texts are reduced to their letters and digits. A rolling hash of 50 characters proposes, for shorter
items one of their last 16; the characters are compared before anything is marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.corpus import Batch
from contamination.index import roll_seeds
from contamination.items import Benchmark
from contamination.jit import kernel
from contamination.lookup import Postings, find, postings_of
from shards.hashing import blake3_json

LENGTH, SHORTEST, SAMPLES = 50, 16, 3


@dataclass(frozen=True)
class CharacterIndex:
    """The sampled substrings.

    Attributes:
        characters: uint64 [num_characters], the substrings one after the other, as code points.
        bounds: int64 [num_substrings + 1].
        item: int32 [num_substrings], over all benchmarks.
        long: the substrings of 50 characters, by the hash of them all.
        short: shorter ones, by the hash of their last 16.
    """

    characters: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    item: NDArray[np.int32]
    long: Postings
    short: Postings


def substrings(text: str, key: str) -> list[str]:
    """The sampled substrings of a text: three of 50 letters and digits, or all of it.

    Args:
        text: passage and question.
        key: what the random places follow from, beside the text.
    """
    kept = "".join(character for character in text if character.isalnum())
    if len(kept) < SHORTEST:
        return []
    if len(kept) < LENGTH:
        return [kept]
    random = Random(int(blake3_json([key, kept])[:16], 16))
    starts = {random.randrange(len(kept) - LENGTH + 1) for _ in range(SAMPLES)}
    return [kept[start : start + LENGTH] for start in sorted(starts)]


def character_index(benchmarks: Sequence[Benchmark]) -> CharacterIndex:
    """Samples and indexes the items of the benchmarks, in order."""
    pieces: list[str] = []
    owners: list[int] = []
    number = 0
    for benchmark in benchmarks:
        for item in benchmark.items:
            found = substrings(f"{item.passage} {item.question}", f"{benchmark.name}/{item.id}")
            pieces += found
            owners += [number] * len(found)
            number += 1
    points = np.frombuffer("".join(pieces).encode("utf-32-le", "surrogatepass"), np.uint32)
    bounds = np.concatenate([[0], np.cumsum([len(p) for p in pieces], dtype=np.int64)])
    characters, bounds = points.astype(np.uint64), bounds.astype(np.int64)
    is_long = np.diff(bounds) == LENGTH
    return CharacterIndex(
        characters,
        bounds,
        np.array(owners, np.int32),
        _by_ends(characters, bounds, np.flatnonzero(is_long), LENGTH),
        _by_ends(characters, bounds, np.flatnonzero(~is_long), SHORTEST),
    )


def _by_ends(
    characters: NDArray[np.uint64], bounds: NDArray[np.int64], chosen: NDArray[np.int64], size: int
) -> Postings:
    """The chosen substrings by the hash of their last `size` characters."""
    return postings_of(_last_hashes(characters, bounds, chosen, size), chosen)


@kernel
def _last_hashes(characters, bounds, chosen, size):  # type: ignore[no-untyped-def]
    out = np.empty(len(chosen), np.uint64)
    rolled = np.empty(size, np.uint64)
    for k in range(len(chosen)):
        stop = bounds[chosen[k] + 1]
        roll_seeds(characters[stop - size : stop], size, size, rolled)
        out[k] = rolled[size - 1]
    return out


@cache
def _kept() -> NDArray[np.bool_]:
    """Which code points are letters or digits: bool [0x110000]."""
    return np.array([chr(code).isalnum() for code in range(0x110000)])


def match_characters(batch: Batch, index: CharacterIndex) -> NDArray[np.bool_]:
    """Which substrings stand in a document of the batch: bool [num_substrings]."""
    found = np.zeros(len(index.item), np.bool_)
    longest = int(np.diff(batch.offsets).max(initial=0)) + 1
    scratch = np.empty((5, longest), np.uint64)
    _match(
        batch.data,
        batch.offsets,
        _kept(),
        (index.characters, index.bounds),
        index.long,
        index.short,
        scratch,
        found,
    )
    return found


@kernel
def _match(data, offsets, kept, substrings, long, short, scratch, found):  # type: ignore[no-untyped-def]
    points = scratch[0]
    for document in range(len(offsets) - 1):
        count = _code_points(data, offsets[document], offsets[document + 1], kept, points)
        _look(points, count, LENGTH, scratch, long, substrings, found)
        _look(points, count, SHORTEST, scratch, short, substrings, found)


@kernel
def _look(points, count, size, scratch, postings, substrings, found):  # type: ignore[no-untyped-def]
    tables, first, place = postings
    characters, bounds = substrings
    rolled, ends, numbers, keys = scratch[1], scratch[2], scratch[3], scratch[4]
    roll_seeds(points, count, size, rolled)
    for k in range(find(rolled, size - 1, count, tables, ends, numbers, keys)):
        end, number = np.int64(ends[k]) + 1, np.int64(numbers[k])
        for posting in range(first[number], first[number + 1]):
            which = place[posting]
            length = bounds[which + 1] - bounds[which]
            if not found[which] and end >= length:
                same = True
                for c in range(length):
                    if points[end - length + c] != characters[bounds[which] + c]:
                        same = False
                        break
                found[which] = same


@njit(inline="always")
def _code_points(data, first, stop, kept, out):  # type: ignore[no-untyped-def]
    """Letters and digits of UTF-8 as code points; broken bytes are left out."""
    count, k = 0, first
    while k < stop:
        byte = np.uint32(data[k])
        if byte < 0x80:
            point, width = byte, 1
        elif byte >= 0xF0:
            point, width = byte & np.uint32(0x07), 4
        elif byte >= 0xE0:
            point, width = byte & np.uint32(0x0F), 3
        elif byte >= 0xC0:
            point, width = byte & np.uint32(0x1F), 2
        else:
            k += 1
            continue
        if k + width > stop:
            break
        for c in range(1, width):
            point = (point << np.uint32(6)) | (np.uint32(data[k + c]) & np.uint32(0x3F))
        k += width
        if point < np.uint32(0x110000) and kept[point]:
            out[count] = np.uint64(point)
            count += 1
    return count
