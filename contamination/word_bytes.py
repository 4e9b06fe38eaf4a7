"""What a byte, or the character or markup it begins, does to the word that is being read.

The tables and the rarer cases of the recipe in `contamination.words`, which has the loop.
"""

from enum import Enum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel

# Byte classes; a class of 16 or more is the (lower-cased) word byte itself.
BREAK, _VANISH, _C2, _C3, _E2, _OTHER, _TAG, _ENTITY, _CJK, _EF, _ACCENT, _F0, COLON = range(13)

# What `beginning_at` found at a position.
ENDS_WORD, NOTHING, LETTER, WHOLE_WORD = range(4)

POLYNOMIAL = np.uint64(0x100000001B3)
ONE, ZERO = np.uint64(1), np.uint64(0)


def polynomial(word: bytes) -> int:
    """The hash of lower-cased word bytes, before `end_word`."""
    value = 0
    for byte in word:
        value = (value * int(POLYNOMIAL) + byte) % (1 << 64)
    return value


def _byte_classes() -> NDArray[np.uint8]:
    classes = np.full(256, BREAK, np.uint8)
    for byte in b"0123456789abcdefghijklmnopqrstuvwxyz":
        classes[byte] = byte
        classes[bytes([byte]).upper()[0]] = byte
    classes[0x80:] = _OTHER
    special = {
        0x3A: COLON,
        0x27: _VANISH,
        0x3C: _TAG,
        0x26: _ENTITY,
        0xC2: _C2,
        0xC3: _C3,
        0xE2: _E2,
    }
    special |= {0xCC: _ACCENT, 0xCD: _ACCENT, 0xEF: _EF, 0xF0: _F0}
    for byte, value in special.items():
        classes[byte] = value
    classes[0xE3:0xEA] = _CJK
    return classes


def _latin_1_letters() -> NDArray[np.uint8]:
    """The ASCII letter for C3 80 .. C3 BF; zero for the multiplication and division signs."""
    upper, lower = "aaaaaaaceeeeiiiidnooooo\0ouuuuyts", "aaaaaaaceeeeiiiidnooooo\0ouuuuyty"
    return np.frombuffer((upper + lower).encode(), np.uint8)


CLASSES = _byte_classes()
LATIN_1 = _latin_1_letters()


class ByteKind(Enum):
    """What a byte does to the word that is being read."""

    LETTER = "a letter or digit"
    BREAK = "ends it"
    COLON = "ends it, and makes a label of it"
    NOTHING = "vanishes"
    OTHER = "begins something longer"


def byte_kinds(data: bytes) -> list[ByteKind]:
    """The kind of each byte, as the loop of `contamination.words` takes it."""
    special = {BREAK: ByteKind.BREAK, COLON: ByteKind.COLON, _VANISH: ByteKind.NOTHING}
    classes = CLASSES[np.frombuffer(data, np.uint8)].tolist()
    return [ByteKind.LETTER if c >= 16 else special.get(c, ByteKind.OTHER) for c in classes]


@kernel
def beginning_at(data, i, stop, kind):  # type: ignore[no-untyped-def]
    """What begins at a byte that is neither a letter, a digit nor a plain ASCII break.

    Returns (action, bytes taken, letter or hash).
    """
    left = stop - i
    second = data[i + ONE] if left > ONE else np.uint8(0)
    third = data[i + np.uint64(2)] if left > np.uint64(2) else np.uint8(0)
    two, three, four = np.uint64(2), np.uint64(3), np.uint64(4)
    if kind == _VANISH:
        return NOTHING, ONE, ZERO
    if kind == _TAG:
        return ENDS_WORD, max(ONE, _tag_width(data, i, stop)), ZERO
    if kind == _ENTITY:
        width = _entity_width(data, i, stop)
        if width > ZERO and _is_apostrophe_entity(data, i, width):
            return NOTHING, width, ZERO
        return ENDS_WORD, max(ONE, width), ZERO
    if (second & 0xC0) == 0x80:
        if kind == _C2:
            return (NOTHING if second == 0xAD else ENDS_WORD), two, ZERO
        if kind == _C3:
            letter = np.uint64(LATIN_1[second & 63])
            return (LETTER if letter else ENDS_WORD), two, letter
        if kind == _ACCENT and (data[i] == 0xCC or second < 0xB0):
            return NOTHING, two, ZERO
        if kind == _E2 and left >= three and second < 0xB0:
            return _general_punctuation(second, third), three, ZERO
        if kind == _CJK and left >= three:
            if data[i] == 0xE3 and second == 0x80:
                return ENDS_WORD, three, ZERO
            return WHOLE_WORD, three, _character(data, i, three)
        if kind == _EF and left >= three and 0xBB <= second <= 0xBD:
            action, letter = _half_and_full_width(second, third)
            if action != WHOLE_WORD:
                return action, three, letter
        if kind == _F0 and left >= four:
            if second == 0x9F:
                return ENDS_WORD, four, ZERO
            if second >= 0xA0:
                return WHOLE_WORD, four, _character(data, i, four)
    return LETTER, ONE, np.uint64(data[i])


@njit(inline="always")
def _general_punctuation(second, third):  # type: ignore[no-untyped-def]
    """U+2000-U+2BFF: curly apostrophes, zero-width and joining characters vanish."""
    vanishes = second == 0x80 and (third == 0x98 or third == 0x99 or 0x8B <= third <= 0x8F)
    if vanishes or (second == 0x81 and third == 0xA0):
        return NOTHING
    return ENDS_WORD


@njit(inline="always")
def _half_and_full_width(second, third):  # type: ignore[no-untyped-def]
    """EF BB .. EF BD: byte order mark, full-width ASCII; `WHOLE_WORD` means neither."""
    if second == 0xBB:
        return (NOTHING if third == 0xBF else WHOLE_WORD), ZERO
    code = np.uint64(third) - np.uint64(0x60 if second == 0xBC else 0x20)
    if third >= 0xA0 and second == 0xBD:
        return WHOLE_WORD, ZERO
    letter = np.uint64(CLASSES[code & np.uint64(127)])
    return (LETTER if letter >= 16 else ENDS_WORD), letter


@njit(inline="always")
def _character(data, i, width):  # type: ignore[no-untyped-def]
    value = ZERO
    for k in range(width):
        value = value * POLYNOMIAL + np.uint64(data[i + np.uint64(k)])
    return value + width


@kernel
def _tag_width(data, i, stop):  # type: ignore[no-untyped-def]
    """Bytes of ``<...>`` when it is a short tag of letters, a slash and 1-6; else 0."""
    for k in range(1, 14):
        j = i + np.uint64(k)
        if j >= stop:
            return ZERO
        byte = data[j]
        if byte == 0x3E:
            return np.uint64(k + 1) if k > 1 else ZERO
        if not (0x61 <= (byte | 0x20) <= 0x7A or byte == 0x2F or 0x31 <= byte <= 0x36):
            return ZERO
    return ZERO


@kernel
def _entity_width(data, i, stop):  # type: ignore[no-untyped-def]
    """Bytes of ``&...;`` when it has the form of an entity; else 0."""
    for k in range(1, 10):
        j = i + np.uint64(k)
        if j >= stop:
            return ZERO
        byte = data[j]
        if byte == 0x3B:
            return np.uint64(k + 1) if k > 1 else ZERO
        if not (0x61 <= (byte | 0x20) <= 0x7A or byte == 0x23 or 0x30 <= byte <= 0x39):
            return ZERO
    return ZERO


@kernel
def _is_apostrophe_entity(data, i, width):  # type: ignore[no-untyped-def]
    """Whether the entity is &#39; &apos; &lsquo; or &rsquo;."""
    b1, b2, b3 = data[i + ONE], data[i + np.uint64(2)], data[i + np.uint64(3)]
    if width == np.uint64(5):
        return b1 == 0x23 and b2 == 0x33 and b3 == 0x39
    if width == np.uint64(6):
        return b1 == 0x61 and b2 == 0x70 and b3 == 0x6F
    return width == np.uint64(7) and (b1 == 0x72 or b1 == 0x6C) and b2 == 0x73 and b3 == 0x71
