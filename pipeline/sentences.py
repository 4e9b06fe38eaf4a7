"""Where English sentences end, in compiled code: equal to `pipeline.words.EnglishWords`.

A sentence starts behind an end mark, at what is no punctuation. The words are cut as for the
filters (`pipeline/word_table.py`).
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.characters import SPACE, codes, kinds_of_all
from pipeline.shape_store import shape_store
from pipeline.word_table import WordTable
from pipeline.words import english

_PUNCTUATION, _END_MARK = 1, 2


class SentenceEnds:
    """Finds the ends of sentences, with what is known of how chunks are cut."""

    def __init__(self) -> None:
        self._table, self._store = WordTable(()), shape_store()
        self._store.recall()

    def keep(self) -> None:
        """Let others know what was learned here."""
        self._store.keep()

    def of(self, text: str) -> NDArray[np.int64]:
        """The ends of all sentences but the last, in bytes of UTF-8.

        White space between, one blank excepted, belongs to the next sentence.
        """
        lengths = self._table.words(text).length
        found: NDArray[np.int64] = _ends(codes(text), kinds_of_all(), _marks(), lengths)
        return found


@cache
def _marks() -> NDArray[np.uint8]:
    """Of every code point, whether it is Unicode's punctuation, and whether it ends a sentence."""
    marks = np.zeros(0x110000, np.uint8)
    marks[[unicodedata.category(chr(code))[0] == "P" for code in range(len(marks))]] = _PUNCTUATION
    marks[sorted(map(ord, english().end_marks))] |= _END_MARK
    return marks


@kernel
def _ends(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    marks: NDArray[np.uint8],
    lengths: NDArray[np.int64],
) -> NDArray[np.int64]:
    out, count = np.empty(len(lengths) + 1, np.int64), 0
    at = word = size = end = 0
    ended = False
    while at < len(codes):
        first, opens = at, True
        if kinds[codes[at]] & SPACE:
            while at < len(codes) and kinds[codes[at]] & SPACE:
                at += 1
            blank = first > 0 and codes[first] == ord(" ")  # belongs to the word before
            is_word = at - first > blank
        else:
            at, word = first + lengths[word], word + 1
            is_word = True
            opens = False
            for position in range(first, at):
                opens |= not marks[codes[position]] & _PUNCTUATION
            if at - first == 1 and marks[codes[first]] & _END_MARK:
                ended, opens = True, False
        if is_word and opens and ended:
            out[count], count, ended = end, count + 1, False
        for position in range(first, at):
            code = codes[position]
            size += 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
        if is_word:
            end = size
    return out[:count].copy()
