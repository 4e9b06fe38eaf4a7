"""Words straight from token ids: the same hashes and spans as from the text, without its bytes.

A word's hash is a polynomial of its bytes, so tokens can be put together: appending a token whose
word bytes hash to t and number n turns h into h * B**n + t. For most tokens of a vocabulary all
that matters is known beforehand: the word bytes before their first break, and those after their
last. Others (markup, bytes above ASCII, several words in one token) are turned into bytes, up to
the next token that begins with white space, and go through the same automaton as text does.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contamination.jit import kernel
from contamination.word_bytes import POLYNOMIAL, ByteKind, byte_kinds, polynomial
from contamination.words import end_word, is_label, is_word, words_from
from shards.detokenize import ByteTable

_HAS_BREAK, _COMPLEX, _COLON, _SPACE = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(8)
_MOST_BYTES = 255
_WHITE = b" \t\n\r"


@dataclass(frozen=True)
class TokenTable:
    """What every token of a vocabulary does to the word that is being read.

    Attributes:
        rows: uint64 [vocab_size, 3]: hash of the word bytes before the first break (of all, if
            there is none); hash of those after the last; and, eight bits each, their numbers and
            first positions, the position of the first break, two for the size, one of flags.
        powers: uint64 [256], B**n.
        bytes: the tokens' bytes.
    """

    rows: NDArray[np.uint64]
    powers: NDArray[np.uint64]
    bytes: ByteTable


def token_table(table: ByteTable) -> TokenTable:
    """Works out the table of a vocabulary."""
    rows = np.array(
        [_row(table.data[a:b].tobytes()) for a, b in pairwise(table.offsets.tolist())],
        np.uint64,
    ).reshape(-1, 3)
    powers = np.array([pow(int(POLYNOMIAL), n, 1 << 64) for n in range(256)], np.uint64)
    return TokenTable(rows, powers, table)


def _row(token: bytes) -> tuple[int, int, int]:
    """Hashes and packed facts of one token."""
    kinds = byte_kinds(token)
    flags = int(_SPACE) if token[:1] and token[0] in _WHITE else 0
    size = len(token) << 40
    breaks = [k for k, kind in enumerate(kinds) if kind in (ByteKind.BREAK, ByteKind.COLON)]
    letters = [k for k, kind in enumerate(kinds) if kind == ByteKind.LETTER]
    inside = [k for k in letters if breaks and breaks[0] < k < breaks[-1]]
    if ByteKind.OTHER in kinds or inside or len(token) > _MOST_BYTES:
        return 0, 0, min(len(token), 0xFFFF) << 40 | (flags | int(_COMPLEX)) << 56
    head = [k for k in letters if not breaks or k < breaks[0]]
    tail = [k for k in letters if breaks and k > breaks[-1]]
    if breaks:
        flags |= int(_HAS_BREAK)
        flags |= int(_COLON) if kinds[breaks[0]] == ByteKind.COLON else 0
    packed = [len(head), head[0] if head else 0, breaks[0] if breaks else 0]
    packed += [len(tail), tail[0] if tail else 0]
    facts = sum(value << (8 * k) for k, value in enumerate(packed))
    lower = token.lower()
    hashes = [polynomial(bytes(lower[k] for k in part)) for part in (head, tail)]
    return hashes[0], hashes[1], facts | size | flags << 56


@kernel
def document_sizes(tokens, starts, stops, rows, out):  # type: ignore[no-untyped-def]
    """Bytes of each document ``tokens[starts[d]:stops[d]]`` to out[d]."""
    for document in range(len(starts)):
        size = np.int64(0)
        for k in range(starts[document], stops[document]):
            size += np.int64((rows[tokens[k], 2] >> np.uint64(40)) & np.uint64(0xFFFF))
        out[document] = size


@kernel
def words_of_tokens(tokens, first, stop, table, buffer, hashes, start, end):  # type: ignore[no-untyped-def]
    """Writes the words of the document ``tokens[first:stop]`` and returns how many.

    Args:
        tokens: ids.
        first: of the document.
        stop: of the document.
        table: (rows, powers, data, offsets, strip_space) of a `TokenTable`.
        buffer: uint8, room for the document's bytes.
        hashes: of the words.
        start: their first bytes in the document.
        end: one past their last.
    """
    rows, powers, data, offsets, strip = table
    zero, one, low = np.uint64(0), np.uint64(1), np.uint64(255)
    count, value, length, word_start = zero, zero, zero, zero
    position = zero
    if strip and first < stop:
        token = np.uint64(tokens[first])
        if offsets[token + one] > offsets[token] and data[offsets[token]] == 32:
            position -= one  # wraps, and back: the text begins behind the dropped space
    dropped = zero - position
    k = first
    while k < stop:
        token = np.uint64(tokens[k])
        facts = rows[token, 2]
        flags = facts >> np.uint64(56)
        if flags & _COMPLEX:
            filled = 0
            skip = np.int64(dropped) if k == first else 0
            while True:
                for byte in range(offsets[token] + skip, offsets[token + one]):
                    buffer[filled] = data[byte]
                    filled += 1
                skip = 0
                k += 1
                if k >= stop:
                    break
                token = np.uint64(tokens[k])
                if (rows[token, 2] >> np.uint64(56)) & _SPACE:
                    break
            if position > np.uint64(1 << 62):
                position = zero
            made, value, length, word_start = words_from(
                buffer,
                zero,
                np.uint64(filled),
                False,
                (value, length, word_start - position),
                hashes[count:],
                start[count:],
                end[count:],
            )
            for w in range(count, count + made):
                start[w] += np.int64(position)
                end[w] += np.int64(position)
            count += made
            word_start += position
            position += np.uint64(filled)
            continue
        size_head = facts & low
        if flags & _HAS_BREAK:
            if size_head:
                if length == zero:
                    word_start = position + ((facts >> np.uint64(8)) & low)
                value = value * powers[size_head] + rows[token, 0]
                length += size_head
            if is_word(value, length, False) and not (flags & _COLON and is_label(value)):
                hashes[count] = end_word(value, length)
                start[count] = word_start
                end[count] = position + ((facts >> np.uint64(16)) & low)
                count += one
            value = rows[token, 1]
            length = (facts >> np.uint64(24)) & low
            word_start = position + ((facts >> np.uint64(32)) & low)
        elif size_head:
            if length == zero:
                word_start = position + ((facts >> np.uint64(8)) & low)
            value = value * powers[size_head] + rows[token, 0]
            length += size_head
        position += (facts >> np.uint64(40)) & np.uint64(0xFFFF)
        k += 1
    if is_word(value, length, False):
        hashes[count], start[count], end[count] = end_word(value, length), word_start, position
        count += one
    return np.int64(count)


def as_kernel_argument(table: TokenTable) -> Any:
    """The table as `words_of_tokens` takes it."""
    pieces = table.bytes
    return table.rows, table.powers, pieces.data, pieces.offsets, pieces.strip_space
