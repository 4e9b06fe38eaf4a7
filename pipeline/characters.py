"""A text as code points, and what kind of character each one is, for compiled code."""

from functools import cache

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from numpy.typing import NDArray

SPACE, LETTER, DIGIT, LOWER, ALPHABETIC, WORDLIKE, PUNCTUATION, ENDS_SENTENCE = (
    1 << bit for bit in range(8)
)
"""Bits of a kind: white space; a-z and A-Z; 0-9; a-z; any script's letter; any script's letter or
number; punctuation and end marks as datatrove's filters know them."""


def codes(text: str) -> NDArray[np.uint32]:
    """The code points of a text; lone surrogates are themselves."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def kinds_of_all() -> NDArray[np.uint8]:
    """The kind of every code point; made once a process."""
    kinds = np.zeros(0x110000, np.uint8)
    characters = np.arange(len(kinds), dtype=np.uint32).view("U1")
    alphabetic = np.strings.isalpha(characters)
    kinds[alphabetic] |= ALPHABETIC
    kinds[alphabetic | np.strings.isnumeric(characters)] |= WORDLIKE
    kinds[np.strings.isspace(characters)] |= SPACE
    kinds[sorted(map(ord, PUNCTUATION_SET))] |= PUNCTUATION
    kinds[sorted(map(ord, TERMINAL_PUNCTUATION))] |= ENDS_SENTENCE
    kinds[ord("a") : ord("z") + 1] |= LETTER | LOWER
    kinds[ord("A") : ord("Z") + 1] |= LETTER
    kinds[ord("0") : ord("9") + 1] |= DIGIT
    return kinds
