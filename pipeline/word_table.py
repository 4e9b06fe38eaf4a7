"""The words of a text as arrays, for rules that count them or look for repeated phrases.

Compiled code cuts (see `pipeline/cutting.py`); only shapes of chunks never met before go through
spaCy's rules (`pipeline/words.py`) and are remembered.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.characters import codes, kinds_of_all
from pipeline.cutting import cut
from pipeline.lines import Lines, count_lines
from pipeline.shapes import exceptions, hashes_of, known_shapes


class Words(NamedTuple):
    """One row a word, in the order of the text, and what they add up to.

    Attributes:
        hash: uint64; polynomial of the characters modulo 2**61 - 1, so that hashes of words that
            follow each other make the hash of what they spell together.
        length: int64; characters.
        plain: words that are not punctuation only.
        characters: of these.
        alphabetic: words with a letter.
        stop_words: how many different stop words occur.
    """

    hash: NDArray[np.uint64]
    length: NDArray[np.int64]
    plain: int
    characters: int
    alphabetic: int
    stop_words: int


class WordTable:
    """Cuts and measures a text once for all rules that ask.

    Args:
        stop_words: at most 60 words whose occurrence is noted.
    """

    def __init__(self, stop_words: Iterable[str]) -> None:
        self._stop_words = sorted(stop_words)
        self._text: str | None = None
        self._codes = codes("")
        self._lines: Lines | None = None
        self._words: Words | None = None
        self._scratch = _scratch(0)

    @cached_property
    def _stop(self) -> NDArray[np.uint64]:
        return hashes_of(self._stop_words)  # compiled code: loaded where texts are cut

    def words(self, text: str) -> Words:
        """The words of the text, valid until another is asked for."""
        self._look_at(text)
        if self._words is None:
            self._words = self._cut()
        return self._words

    def lines(self, text: str) -> Lines:
        """What is to be counted in the lines of the text."""
        self._look_at(text)
        if self._lines is None:
            self._lines = count_lines(self._codes)
        return self._lines

    def _look_at(self, text: str) -> None:
        if self._text is not text:
            self._text, self._codes = text, codes(text)
            self._lines = self._words = None

    def _cut(self) -> Words:
        if len(self._scratch.hashes) < len(self._codes):
            self._scratch = _scratch(2 * len(self._codes))
        shapes, room = known_shapes(), self._scratch
        if shapes.is_full:
            shapes.forget()
        rules, sums = (kinds_of_all(), exceptions(), self._stop), np.zeros(6, np.int64)
        while True:
            known = shapes.keys, shapes.firsts, shapes.ends
            strange = cut(self._codes, *rules, *known, *room, sums)
            if not strange:
                break
            shapes.learn(room.unknown, room.ends, room.keys, strange)
        _, words, plain, characters, alphabetic, stops = map(int, sums)
        rows = room.hashes[:words], room.lengths[:words]
        return Words(*rows, plain, characters, alphabetic, stops.bit_count())


class _Scratch(NamedTuple):
    """Room for the words of a text and its unknown shapes, see `pipeline.cutting.cut`."""

    hashes: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    unknown: NDArray[np.uint32]
    ends: NDArray[np.int64]
    keys: NDArray[np.uint64]


def _scratch(size: int) -> _Scratch:
    hashes, keys = np.empty((2, size), np.uint64)
    lengths, ends = np.empty((2, size), np.int64)
    return _Scratch(hashes, lengths, np.empty(size, np.uint32), ends, keys)
