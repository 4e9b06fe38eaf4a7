"""What the rules count in the lines and paragraphs of a text, in compiled code.

Lines and paragraphs are compared by 61-bit hashes.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.characters import ENDS_SENTENCE, SPACE, kinds_of_all
from pipeline.cutting import slot_of
from pipeline.modular import BASE, add, times

_NEWLINE, _RETURN, _ELLIPSIS = ord("\n"), ord("\r"), ord("…")
_BULLETS = (ord("•"), ord("-"))
_BREAKS = tuple(map(ord, "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
_SHORT = 30
_ONE = np.uint64(1)


class Lines(NamedTuple):
    """Counts of a text.

    Attributes:
        newlines, hashes: of these characters.
        ellipses: "..." and "…".
        lines: as `str.splitlines` finds them.
        bullets: of these, those that start with "•" or "-" behind white space.
        open_ends: of these, those that end with an ellipsis before white space.
        paragraphs: what empty lines separate in the stripped text.
        repeated_paragraphs: those that stood before already.
        repeated_paragraph_characters: in these.
        rows: what newlines separate, several of them once.
        repeated_rows: those that stood before already.
        repeated_row_characters: in these.
        inked: rows that are not white space only.
        ended: of these, those whose last character ends a sentence.
        short: of these, those of at most 30 characters.
        repeated_inked_characters: in those of these that stood before already.
    """

    newlines: int
    hashes: int
    ellipses: int
    lines: int
    bullets: int
    open_ends: int
    paragraphs: int
    repeated_paragraphs: int
    repeated_paragraph_characters: int
    rows: int
    repeated_rows: int
    repeated_row_characters: int
    inked: int
    ended: int
    short: int
    repeated_inked_characters: int


def count_lines(codes: NDArray[np.uint32]) -> Lines:
    """Counts in a text given as code points."""
    return Lines(*_count(codes, kinds_of_all()))


@njit(inline="always")
def _marks(codes: NDArray[np.uint32]) -> tuple[int, int, int]:
    """Newlines, number signs, ellipses."""
    newlines = hashes = ellipses = dots = 0
    for code in codes:
        newlines += code == _NEWLINE
        hashes += code == ord("#")
        ellipses += code == _ELLIPSIS
        dots = dots + 1 if code == ord(".") else 0
        if dots == 3:
            ellipses, dots = ellipses + 1, 0
    return newlines, hashes, ellipses


@njit(inline="always")
def _stripped(
    codes: NDArray[np.uint32], kinds: NDArray[np.uint8], start: int, end: int
) -> tuple[int, int]:
    while start < end and kinds[codes[start]] & SPACE:
        start += 1
    while end > start and kinds[codes[end - 1]] & SPACE:
        end -= 1
    return start, end


@njit(inline="always")
def _is_break(code: np.uint32) -> bool:
    if ord(" ") <= code < 0x85:
        return False
    for mark in _BREAKS:  # noqa: SIM110
        if code == mark:
            return True
    return False


@njit(inline="always")
def _split_lines(codes: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> tuple[int, int, int]:
    lines = bullets = open_ends = start = 0
    while start < len(codes):
        stop = start
        while stop < len(codes) and not _is_break(codes[stop]):
            stop += 1
        first, last = _stripped(codes, kinds, start, stop)
        lines += 1
        bullets += first < last and (codes[first] == _BULLETS[0] or codes[first] == _BULLETS[1])
        if first < last and codes[last - 1] == _ELLIPSIS:
            open_ends += 1
        elif last - first >= 3 and codes[last - 1] == ord("."):
            open_ends += codes[last - 2] == ord(".") and codes[last - 3] == ord(".")
        windows = stop + 1 < len(codes) and codes[stop] == _RETURN and codes[stop + 1] == _NEWLINE
        start = stop + (2 if windows else 1)
    return lines, bullets, open_ends


@njit(inline="always")
def _separates(codes: NDArray[np.uint32], at: int, end: int, least: int) -> bool:
    if codes[at] != _NEWLINE:
        return False
    return least == 1 or (at + 1 < end and codes[at + 1] == _NEWLINE)


@njit(inline="always")
def _most_parts(codes: NDArray[np.uint32], start: int, end: int, least: int) -> int:
    parts = 1
    for at in range(start, end):
        parts += _separates(codes, at, end, least)
    return parts


@njit(inline="always")
def _parts(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    start: int,
    end: int,
    least: int,
) -> tuple[int, int, int, int, int, int, int]:
    """Counts what runs of at least `least` newlines separate.

    Returns:
        Parts, repeated ones, characters in these; parts that are not white space only, those that
        end a sentence, short ones, and characters in repeated ones.
    """
    parts = repeated = characters = inked = ended = short = inked_characters = 0
    most = _most_parts(codes, start, end, least)
    room = 4
    while room < 2 * most:
        room *= 2
    seen = np.zeros(room, np.uint64)
    while True:
        stop, key, blank = start, np.uint64(0), True
        while stop < end and not _separates(codes, stop, end, least):
            if most > 1:
                key = add(times(key, BASE), np.uint64(codes[stop]) + _ONE)
            blank = blank and kinds[codes[stop]] & SPACE != 0
            stop += 1
        size, key = stop - start, key + _ONE  # 0 is an empty place
        slot = slot_of(seen, key)
        known = seen[slot] == key
        seen[slot] = key
        parts += 1
        repeated += known
        characters += size * known
        if not blank:
            inked += 1
            ended += kinds[codes[stop - 1]] & ENDS_SENTENCE != 0
            short += size <= _SHORT
            inked_characters += size * known
        if stop == end:
            return parts, repeated, characters, inked, ended, short, inked_characters
        start = stop
        while start < end and codes[start] == _NEWLINE:
            start += 1


@kernel
def _count(codes: NDArray[np.uint32], kinds: NDArray[np.uint8]) -> tuple[int, ...]:
    marks = _marks(codes)
    lines = _split_lines(codes, kinds)
    first, last = _stripped(codes, kinds, 0, len(codes))
    paragraphs = _parts(codes, kinds, first, last, 2)
    rows = _parts(codes, kinds, 0, len(codes), 1)
    counts: tuple[int, ...] = marks + lines + paragraphs[:3] + rows
    return counts
