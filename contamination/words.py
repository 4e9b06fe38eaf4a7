"""Words as 64-bit hashes: the one text normalisation that both sides of the audit use.

A single pass over UTF-8 bytes, in numba, with no text object made. The recipe:

* ASCII letters and digits build words, in lower case; everything else in ASCII ends a word;
* apostrophes (straight, curly, ``&#39;``, ``&rsquo;``), combining accents, soft hyphens and
  zero-width characters vanish without ending a word: ``don't`` is ``dont``;
* Latin-1 letters lose their accents, full-width letters and digits become ASCII ones;
* punctuation and symbols of U+2000-U+2BFF, CJK punctuation and emoji end a word;
* Chinese characters and kana are a word each; other scripts keep their bytes;
* short tags (``<b>``, ``</p>``, ``<br/>``) and entities (``&amp;``) end a word and are skipped;
* ``Question:`` and ``Answer:`` are dropped: they label the parts of an item in a prompt;
* single ASCII letters are dropped unless asked for ("A." labels an option), digits are kept.

Any change to what a text hashes to must raise ``RECIPE_VERSION``: indexes, caches and reports carry
`RECIPE_HASH` and are refused when it differs.
"""

from enum import Enum
from typing import NamedTuple

import blake3
import numpy as np
from numba import njit
from numpy.typing import NDArray

from contamination.jit import kernel

RECIPE_VERSION = 1

# Byte classes; a class of 16 or more is the (lower-cased) word byte itself.
_BREAK, _VANISH, _C2, _C3, _E2, _OTHER, _TAG, _ENTITY, _CJK, _EF, _ACCENT, _F0, _COLON = range(13)

# What `_rare` found at a position.
_ENDS_WORD, _NOTHING, _LETTER, _WHOLE_WORD = range(4)

POLYNOMIAL = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


def polynomial(word: bytes) -> int:
    """The hash of lower-cased word bytes, before `end_word`."""
    value = 0
    for byte in word:
        value = (value * int(POLYNOMIAL) + byte) % (1 << 64)
    return value


_LABEL_1, _LABEL_2 = np.uint64(polynomial(b"question")), np.uint64(polynomial(b"answer"))


def _byte_classes() -> NDArray[np.uint8]:
    classes = np.full(256, _BREAK, np.uint8)
    for byte in b"0123456789abcdefghijklmnopqrstuvwxyz":
        classes[byte] = byte
        classes[bytes([byte]).upper()[0]] = byte
    classes[0x80:] = _OTHER
    special = {
        0x3A: _COLON,
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


_CLASSES = _byte_classes()
_LATIN_1 = _latin_1_letters()
RECIPE_HASH = blake3.blake3(
    b"tally words %d " % RECIPE_VERSION + _CLASSES.tobytes() + _LATIN_1.tobytes()
).hexdigest()[:16]


class ByteKind(Enum):
    """What a byte does to the word that is being read."""

    LETTER = "a letter or digit"
    BREAK = "ends it"
    COLON = "ends it, and makes a label of it"
    NOTHING = "vanishes"
    OTHER = "begins something longer"


def byte_kinds(data: bytes) -> list[ByteKind]:
    """The kind of each byte, as the automaton below takes it."""
    special = {_BREAK: ByteKind.BREAK, _COLON: ByteKind.COLON, _VANISH: ByteKind.NOTHING}
    classes = _CLASSES[np.frombuffer(data, np.uint8)].tolist()
    return [ByteKind.LETTER if c >= 16 else special.get(c, ByteKind.OTHER) for c in classes]


class Words(NamedTuple):
    """The words of some documents, in order.

    Attributes:
        hash: uint64 [num_words].
        document_offsets: int64 [num_documents + 1]; document d has words [o[d], o[d+1]).
        start: int64 [num_words], first byte of the word in ``data``.
        end: int64 [num_words], one past its last byte.
    """

    hash: NDArray[np.uint64]
    document_offsets: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def hash_words(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], keep_single_letters: bool
) -> Words:
    """Hashes the words of many documents at once.

    Args:
        data: uint8 [num_bytes], the documents' UTF-8 bytes one after the other. Broken UTF-8 is
            taken as it comes and never read past a document's end.
        offsets: int64 [num_documents + 1]; document d is ``data[offsets[d]:offsets[d + 1]]``.
        keep_single_letters: whether "a" and "I" are words.
    """
    offsets = np.ascontiguousarray(offsets, np.int64)
    # A word and its break take two bytes or more, so this never overflows; the pages that are not
    # written are never backed by memory, and resize gives them back without a copy.
    capacity = max(0, int(offsets[-1] - offsets[0])) // 2 + len(offsets)
    hashes, start, end = np.empty(capacity, np.uint64), np.empty(capacity, np.int64), None
    end = np.empty(capacity, np.int64)
    document_offsets = np.zeros(len(offsets), np.int64)
    data = np.ascontiguousarray(data, np.uint8)
    count = _fill(data, offsets, keep_single_letters, hashes, start, end, document_offsets)
    for array in (hashes, start, end):
        array.resize(count, refcheck=False)
    return Words(hashes, document_offsets, start, end)


def hash_words_of_texts(texts: list[str], keep_single_letters: bool = False) -> Words:
    """`hash_words` for Python strings (lone surrogates are kept as bytes)."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return hash_words(np.frombuffer(b"".join(encoded), np.uint8), offsets, keep_single_letters)


@kernel
def _fill(data, offsets, keep_single_letters, hashes, start, end, document_offsets):  # type: ignore[no-untyped-def]
    count = 0
    for document in range(len(offsets) - 1):
        count += words_of_document(
            data,
            offsets[document],
            offsets[document + 1],
            keep_single_letters,
            hashes[count:],
            start[count:],
            end[count:],
        )
        document_offsets[document + 1] = count
    return count


@kernel
def words_of_document(data, first, stop, keep_single_letters, hashes, start, end):  # type: ignore[no-untyped-def]
    """Writes the words of ``data[first:stop]`` and returns how many; the kernels' entry."""
    first, stop = np.uint64(first), np.uint64(stop)
    count, value, length, word_start = words_from(
        data, first, stop, keep_single_letters, (_ZERO, _ZERO, first), hashes, start, end
    )
    if length > _ZERO and (keep_single_letters or length > _ONE or value < np.uint64(58)):
        hashes[count], start[count], end[count] = end_word(value, length), word_start, stop
        count += _ONE
    return np.int64(count)


@kernel
def words_from(data, i, stop, keep_single_letters, word, hashes, start, end):  # type: ignore[no-untyped-def]
    """Writes the words that end in ``data[i:stop]``.

    Every index is unsigned: numba turns mixed signs into floats, and the check for a negative index
    costs a quarter of the speed.

    Args:
        data: bytes.
        i: where to begin.
        stop: where to end.
        keep_single_letters: whether "a" and "I" are words.
        word: (hash, length, first byte) of a word that has begun before `i`.
        hashes: of the words.
        start: their first bytes.
        end: one past their last.

    Returns:
        How many words, and the word that has not ended, as it came.
    """
    count = _ZERO
    value, length, word_start = word
    while i < stop:
        kind = _CLASSES[data[i]]
        if kind >= 16:
            if length == _ZERO:
                word_start = i
            run_start = i
            while True:  # the loop that most bytes go through
                value = value * POLYNOMIAL + np.uint64(kind)
                i += _ONE
                if i >= stop:
                    break
                kind = _CLASSES[data[i]]
                if kind < 16:
                    break
            length += i - run_start
            if i >= stop:
                break
        here = i
        if kind in (_BREAK, _COLON):
            if kind == _COLON and is_label(value):
                value, length = _ZERO, _ZERO
            action, letter = _ENDS_WORD, _ZERO
            i += _ONE
        else:
            action, width, letter = _rare(data, i, stop, kind)
            i += width
        if action == _LETTER:
            if length == _ZERO:
                word_start = here
            value = value * POLYNOMIAL + letter
            # A byte above ASCII counts double: a lone letter of another script is a word.
            length += _ONE if letter < np.uint64(128) else np.uint64(2)
        elif action != _NOTHING:
            if length > _ZERO:
                if keep_single_letters or length > _ONE or value < np.uint64(58):
                    hashes[count], start[count], end[count] = (
                        end_word(value, length),
                        word_start,
                        here,
                    )
                    count += _ONE
                value, length = _ZERO, _ZERO
            if action == _WHOLE_WORD:
                hashes[count], start[count], end[count] = _mix(letter), here, i
                count += _ONE
    return count, value, length, word_start


@njit(inline="always")
def is_label(value):  # type: ignore[no-untyped-def]
    """Whether a word before a colon labels a part of an item: question, answer."""
    return value in (_LABEL_1, _LABEL_2)


@njit(inline="always")
def end_word(value, length):  # type: ignore[no-untyped-def]
    """The hash of a whole word."""
    return _mix(value + length)


@njit(inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    value ^= value >> np.uint64(32)
    value *= _MIX_1
    value ^= value >> np.uint64(29)
    value *= _MIX_2
    return value ^ (value >> np.uint64(32))


@kernel
def _rare(data, i, stop, kind):  # type: ignore[no-untyped-def]
    """What begins at a byte that is neither a letter, a digit nor a plain ASCII break.

    Returns (action, bytes taken, letter or hash).
    """
    left = stop - i
    second = data[i + _ONE] if left > _ONE else np.uint8(0)
    third = data[i + np.uint64(2)] if left > np.uint64(2) else np.uint8(0)
    two, three, four = np.uint64(2), np.uint64(3), np.uint64(4)
    if kind == _VANISH:
        return _NOTHING, _ONE, _ZERO
    if kind == _TAG:
        return _ENDS_WORD, max(_ONE, _tag_width(data, i, stop)), _ZERO
    if kind == _ENTITY:
        width = _entity_width(data, i, stop)
        if width > _ZERO and _is_apostrophe_entity(data, i, width):
            return _NOTHING, width, _ZERO
        return _ENDS_WORD, max(_ONE, width), _ZERO
    if (second & 0xC0) == 0x80:
        if kind == _C2:
            return (_NOTHING if second == 0xAD else _ENDS_WORD), two, _ZERO
        if kind == _C3:
            letter = np.uint64(_LATIN_1[second & 63])
            return (_LETTER if letter else _ENDS_WORD), two, letter
        if kind == _ACCENT and (data[i] == 0xCC or second < 0xB0):
            return _NOTHING, two, _ZERO
        if kind == _E2 and left >= three and second < 0xB0:
            return _general_punctuation(second, third), three, _ZERO
        if kind == _CJK and left >= three:
            if data[i] == 0xE3 and second == 0x80:
                return _ENDS_WORD, three, _ZERO
            return _WHOLE_WORD, three, _character(data, i, three)
        if kind == _EF and left >= three and 0xBB <= second <= 0xBD:
            action, letter = _half_and_full_width(second, third)
            if action != _WHOLE_WORD:
                return action, three, letter
        if kind == _F0 and left >= four:
            if second == 0x9F:
                return _ENDS_WORD, four, _ZERO
            if second >= 0xA0:
                return _WHOLE_WORD, four, _character(data, i, four)
    return _LETTER, _ONE, np.uint64(data[i])


@njit(inline="always")
def _general_punctuation(second, third):  # type: ignore[no-untyped-def]
    """U+2000-U+2BFF: curly apostrophes, zero-width and joining characters vanish."""
    vanishes = second == 0x80 and (third == 0x98 or third == 0x99 or 0x8B <= third <= 0x8F)
    if vanishes or (second == 0x81 and third == 0xA0):
        return _NOTHING
    return _ENDS_WORD


@njit(inline="always")
def _half_and_full_width(second, third):  # type: ignore[no-untyped-def]
    """EF BB .. EF BD: byte order mark, full-width ASCII; `_WHOLE_WORD` means neither."""
    if second == 0xBB:
        return (_NOTHING if third == 0xBF else _WHOLE_WORD), _ZERO
    code = np.uint64(third) - np.uint64(0x60 if second == 0xBC else 0x20)
    if third >= 0xA0 and second == 0xBD:
        return _WHOLE_WORD, _ZERO
    letter = np.uint64(_CLASSES[code & np.uint64(127)])
    return (_LETTER if letter >= 16 else _ENDS_WORD), letter


@njit(inline="always")
def _character(data, i, width):  # type: ignore[no-untyped-def]
    value = _ZERO
    for k in range(width):
        value = value * POLYNOMIAL + np.uint64(data[i + np.uint64(k)])
    return value + width


@kernel
def _tag_width(data, i, stop):  # type: ignore[no-untyped-def]
    """Bytes of ``<...>`` when it is a short tag of letters, a slash and 1-6; else 0."""
    for k in range(1, 14):
        j = i + np.uint64(k)
        if j >= stop:
            return _ZERO
        byte = data[j]
        if byte == 0x3E:
            return np.uint64(k + 1) if k > 1 else _ZERO
        if not (0x61 <= (byte | 0x20) <= 0x7A or byte == 0x2F or 0x31 <= byte <= 0x36):
            return _ZERO
    return _ZERO


@kernel
def _entity_width(data, i, stop):  # type: ignore[no-untyped-def]
    """Bytes of ``&...;`` when it has the form of an entity; else 0."""
    for k in range(1, 10):
        j = i + np.uint64(k)
        if j >= stop:
            return _ZERO
        byte = data[j]
        if byte == 0x3B:
            return np.uint64(k + 1) if k > 1 else _ZERO
        if not (0x61 <= (byte | 0x20) <= 0x7A or byte == 0x23 or 0x30 <= byte <= 0x39):
            return _ZERO
    return _ZERO


@kernel
def _is_apostrophe_entity(data, i, width):  # type: ignore[no-untyped-def]
    """Whether the entity is &#39; &apos; &lsquo; or &rsquo;."""
    b1, b2, b3 = data[i + _ONE], data[i + np.uint64(2)], data[i + np.uint64(3)]
    if width == np.uint64(5):
        return b1 == 0x23 and b2 == 0x33 and b3 == 0x39
    if width == np.uint64(6):
        return b1 == 0x61 and b2 == 0x70 and b3 == 0x6F
    return width == np.uint64(7) and (b1 == 0x72 or b1 == 0x6C) and b2 == 0x73 and b3 == 0x71
