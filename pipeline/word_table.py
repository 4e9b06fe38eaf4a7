"""The words of a text as arrays, for rules that count them or look for repeated phrases.

Every chunk (see `pipeline/words.py`) is cut once and every word measured once; a text is then a
list of numbers of known chunks, which compiled code turns into one row of measures a word.
"""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET
from datatrove.utils.word_tokenizers import WordTokenizer
from numba import njit
from numpy.typing import NDArray

from pipeline.modular import BASE, add, times
from pipeline.words import chunks, english

SYMBOL, ALPHABETIC = 1, 2
"""Bits of `Words.flags`: nothing but punctuation; at least one letter."""
_FIRST_STOP_WORD = 2
_REMEMBERED = 400_000


class Words(NamedTuple):
    """One row a word, in the order of the text.

    Attributes:
        hash: uint64; polynomial of the characters modulo 2**61 - 1, so that hashes of words that
            follow each other make the hash of what they spell together.
        power: uint64; the polynomial's base to the word's length.
        length: int64; characters.
        flags: uint32; SYMBOL, ALPHABETIC, and a bit for every stop word.
    """

    hash: NDArray[np.uint64]
    power: NDArray[np.uint64]
    length: NDArray[np.int64]
    flags: NDArray[np.uint32]

    @property
    def stop_words(self) -> int:
        """How many different stop words occur."""
        bits = int(np.bitwise_or.reduce(self.flags, initial=0))
        return (bits >> _FIRST_STOP_WORD).bit_count()


class WordTable(dict[str, int]):
    """Numbers of the chunks seen, and the measures of their words.

    Args:
        stop_words: at most 30 words whose occurrence is noted.
    """

    def __init__(self, stop_words: Iterable[str]) -> None:
        super().__init__()
        bits = enumerate(sorted(stop_words), _FIRST_STOP_WORD)
        self._stop = {word: 1 << bit for bit, word in bits}
        self._numbers: dict[str, int] = {}  # of words; chunks have theirs in the table itself
        self._new: list[str] = []  # not measured yet
        self._starts, self._rows = array("q"), array("q")
        self._known = _empty(0)
        self._text, self._words = "", self._known
        self._forget()

    def words(self, text: str) -> Words:
        """The words of the text; also those of the last text, without work."""
        if self._text is not text:
            self._text, self._words = text, self._look_up(chunks(text))
        return self._words

    def _look_up(self, parts: list[str]) -> Words:
        if len(self) > _REMEMBERED:
            self._forget()
        numbers = np.fromiter(map(self.__getitem__, parts), np.int64, len(parts))
        self._measure()
        starts, words = np.frombuffer(self._starts, np.int64), np.frombuffer(self._rows, np.int64)
        rows = _rows(numbers, starts, words)
        known = self._known
        return Words(known.hash[rows], known.power[rows], known.length[rows], known.flags[rows])

    def __missing__(self, chunk: str) -> int:
        for word in english().words(chunk):
            row = self._numbers.get(word)
            if row is None:
                row = self._numbers[word] = len(self._numbers)
                self._new.append(word)
            self._rows.append(row)
        self._starts.append(len(self._rows))
        number = self[chunk] = len(self)
        return number

    def _measure(self) -> None:
        """Measures the new words, all at once."""
        if not self._new:
            return
        lengths = np.fromiter(map(len, self._new), np.int64, len(self._new))
        flags = np.fromiter(map(self._flags, self._new), np.uint32, len(self._new))
        text = np.frombuffer("".join(self._new).encode("utf-32-le", "surrogatepass"), np.uint32)
        hashes, powers = _spell(text, lengths)
        new = Words(hashes, powers, lengths, flags)
        first, size = len(self._numbers) - len(self._new), len(self._numbers)
        if size > len(self._known.hash):
            old, self._known = self._known, _empty(2 * size)
            _copy(old, self._known, 0)
        _copy(new, self._known, first)
        self._new = []

    def _flags(self, word: str) -> int:
        if word.isalpha():
            return ALPHABETIC | self._stop.get(word, 0)
        symbol: bool = PUNCTUATION_SET.issuperset(word)
        kind = SYMBOL * symbol | ALPHABETIC * any(map(str.isalpha, word))
        return int(kind) | self._stop.get(word, 0)

    def _forget(self) -> None:
        self.clear()
        # NumPy cannot look at an empty array, so there is a chunk 0; no text has it.
        self[""], self._starts, self._rows = 0, array("q", [0, 1]), array("q", [0])
        self._numbers, self._new = {}, []


def _empty(size: int) -> Words:
    return Words(
        np.zeros(size, np.uint64),
        np.zeros(size, np.uint64),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
    )


def _copy(rows: Words, into: Words, first: int) -> None:
    part = slice(first, first + len(rows.hash))
    into.hash[part], into.power[part] = rows.hash, rows.power
    into.length[part], into.flags[part] = rows.length, rows.flags


@njit(nogil=True, cache=True)
def _rows(
    chunk_numbers: NDArray[np.int64], starts: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The words' rows, chunk after chunk: ragged rows looked up."""
    size = 0
    for chunk in chunk_numbers:
        size += starts[chunk + 1] - starts[chunk]
    out, at = np.empty(size, np.int64), 0
    for chunk in chunk_numbers:
        for word in range(starts[chunk], starts[chunk + 1]):
            out[at] = rows[word]
            at += 1
    return out


@njit(nogil=True, cache=True)
def _spell(
    characters: NDArray[np.uint32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash of every word, and the base to its length."""
    hashes, powers = np.zeros(len(lengths), np.uint64), np.ones(len(lengths), np.uint64)
    at = 0
    for word in range(len(lengths)):
        for _ in range(lengths[word]):
            symbol = np.uint64(characters[at] + 1)
            hashes[word] = add(times(hashes[word], BASE), symbol)
            powers[word] = times(powers[word], BASE)
            at += 1
    return hashes, powers


class WordCount(WordTokenizer):
    """The table in the place of a language, for datatrove's filters that only count words."""

    def __init__(self, table: WordTable) -> None:
        super().__init__("en")
        self.table = table

    def word_tokenize(self, text: str) -> list[str]:
        """As many words as there are; which ones does not matter to the caller."""
        return [""] * len(self.table.words(text).hash)

    def sent_tokenize(self, text: str) -> list[str]:
        """No rule asks for sentences."""
        raise NotImplementedError

    span_tokenize = sent_tokenize
