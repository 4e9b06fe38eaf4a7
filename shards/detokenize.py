"""Tokens -> the exact bytes of the text, without the tokenizer library in the loop.

Byte-level BPE (GPT-2, Llama 3 and ours) and sentencepiece-style vocabularies give every token a
fixed string of bytes, so decoding is concatenation. A `ByteTable` holds these strings; whoever
uses it checks it against the tokenizer's own decoding. `Decoder` does so, and leaves to the
tokenizer what the table cannot do.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shards.errors import DatasetError

_CHECKED_DOCUMENTS = 20
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class ByteTable:
    """The bytes of every token.

    Attributes:
        data: uint8, all tokens' bytes.
        offsets: int64 [vocab_size + 1]; token t is ``data[offsets[t]:offsets[t + 1]]``.
        strip_space: whether decoding drops one space at a document's beginning.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    strip_space: bool

    def ends(self, tokens: NDArray[Any]) -> NDArray[np.int64]:
        """Bytes up to the end of each token of a document: int64 [num_tokens]."""
        ends: NDArray[np.int64] = np.cumsum(np.diff(self.offsets)[tokens], dtype=np.int64)
        ends -= self._dropped(tokens)
        return ends

    def single_bytes(self) -> frozenset[int]:
        """The bytes that have a token of their own."""
        alone = self.offsets[:-1][np.diff(self.offsets) == 1]
        return frozenset(self.data[alone].tolist())

    def decode(
        self, tokens: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Bytes and offsets of documents ``tokens[starts[d]:stops[d]]``."""
        offsets = np.zeros(len(starts) + 1, np.int64)
        _measure(tokens, starts, stops, self.offsets, offsets)
        data = np.empty(int(offsets[-1]), np.uint8)
        _decode(tokens, starts, stops, self.data, self.offsets, data, offsets)
        return (data, offsets) if not self.strip_space else _strip(data, offsets)

    def _dropped(self, tokens: NDArray[Any]) -> int:
        if not self.strip_space or not len(tokens):
            return 0
        first = self.data[self.offsets[tokens[0]] : self.offsets[tokens[0] + 1]]
        return int(len(first) > 0 and first[0] == ord(" "))


def tokens_holding(ends: NDArray[np.int64], start: int, end: int) -> tuple[int, int]:
    """The first token with bytes in [start, end) of a document, and one past the last.

    Args:
        ends: bytes up to the end of each token, as of `ByteTable.ends`.
        start: first byte.
        end: one past the last.
    """
    first = int(np.searchsorted(ends, start, side="right"))
    return first, min(int(np.searchsorted(ends, end, side="left")) + 1, len(ends))


def byte_table(tokenizer: Tokenizer) -> ByteTable:
    """The bytes of every token of a vocabulary.

    Raises:
        DatasetError: a decoder that is not plain concatenation of bytes.
    """
    added = {token.content: id_ for id_, token in tokenizer.get_added_tokens_decoder().items()}
    decoder = json.loads(tokenizer.to_str())["decoder"]
    return table_of(tokenizer.get_vocab(with_added_tokens=False), added, decoder)


def table_of(
    vocabulary: dict[str, int], added: dict[str, int], decoder: dict[str, Any] | None
) -> ByteTable:
    """The bytes of every token, from the parts of a tokenizer.json.

    Args:
        vocabulary: the model's tokens, to their ids.
        added: added tokens, which stand for themselves.
        decoder: the file's `decoder`.

    Raises:
        DatasetError: a decoder that is not plain concatenation of bytes.
    """
    kinds = _decoder_kinds(decoder)
    byte_level = "ByteLevel" in kinds
    if not byte_level and not kinds & {"Metaspace", "ByteFallback"}:
        raise DatasetError(
            f"the tokenizer's decoder ({', '.join(sorted(kinds)) or 'none'}) does not put "
            "fixed bytes one after another; use the text itself instead of the packed tokens"
        )
    size = max((vocabulary | added).values()) + 1
    pieces = [b""] * size
    found = _byte_level_pieces(list(vocabulary)) if byte_level else map(_token_bytes, vocabulary)
    for id_, piece in zip(vocabulary.values(), found, strict=True):
        pieces[id_] = piece
    for token, id_ in added.items():
        pieces[id_] = token.encode()
    offsets = np.zeros(size + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return ByteTable(np.frombuffer(b"".join(pieces), np.uint8), offsets, not byte_level)


class Decoder:
    """Texts as the tokenizer decodes them, by the table where that gives the same."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._checked = tokenizer, False
        try:
            self._table: ByteTable | None = byte_table(tokenizer)
        except DatasetError:
            self._table = None

    def texts(
        self, tokens: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> list[bytes]:
        """UTF-8 of documents ``tokens[starts[d]:stops[d]]``."""
        if not self._checked:
            self._check(tokens, starts[:_CHECKED_DOCUMENTS], stops[:_CHECKED_DOCUMENTS])
        if self._table is None:
            return self._by_library(tokens, starts, stops)
        data, offsets = self._table.decode(tokens, starts, stops)
        cuts = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        texts = [data[first:last].tobytes() for first, last in cuts]
        # A character cut in two decodes to another one, which the library knows.
        broken = np.array([d for d, text in enumerate(texts) if not _is_utf8(text)], np.int64)
        if len(broken):
            mended = self._by_library(tokens, starts[broken], stops[broken])
            for document, text in zip(broken.tolist(), mended, strict=True):
                texts[document] = text
        return texts

    def _check(
        self, tokens: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> None:
        self._checked = True
        if self._table and self.texts(tokens, starts, stops) != self._by_library(
            tokens, starts, stops
        ):
            self._table = None

    def _by_library(
        self, tokens: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> list[bytes]:
        spans = zip(starts.tolist(), stops.tolist(), strict=True)
        ids = [tokens[start:stop].tolist() for start, stop in spans]
        return [
            text.encode() for text in self._tokenizer.decode_batch(ids, skip_special_tokens=False)
        ]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoder_kinds(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    inner = [kind for part in decoder.get("decoders", ()) for kind in _decoder_kinds(part)]
    return {decoder["type"], *inner}


def _byte_level_pieces(tokens: list[str]) -> Iterator[bytes]:
    """The bytes of byte-level tokens: a character of theirs stands for a byte."""
    alphabet = _byte_level_alphabet()
    try:  # all at once takes a tenth of the time
        content = "".join(tokens).translate(alphabet).encode("latin-1")
    except UnicodeEncodeError:  # in some token a character that stands for no byte
        return (_byte_level_piece(token, alphabet) for token in tokens)
    ends = list(accumulate(map(len, tokens)))
    return map(content.__getitem__, map(slice, [0, *ends], ends))


def _byte_level_piece(token: str, alphabet: dict[int, str]) -> bytes:
    try:
        return token.translate(alphabet).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


def _token_bytes(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("\u2581", " ").encode()


def _byte_level_alphabet() -> dict[int, str]:
    """Byte-level BPE's printable character of each byte (GPT-2's table), to `chr(byte)`.

    Characters below 256 that stand for no byte lead to one that latin-1 cannot encode.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = dict.fromkeys(others, "\uffff") | {byte: chr(byte) for byte in printable}
    return table | {256 + k: chr(byte) for k, byte in enumerate(others)}


@njit(nogil=True, cache=True)
def _measure(tokens, starts, stops, pieces, out):  # type: ignore[no-untyped-def]
    """Where each document's bytes begin, and the end of the last."""
    for document in range(len(starts)):
        size = 0
        for k in range(starts[document], stops[document]):
            size += pieces[tokens[k] + 1] - pieces[tokens[k]]
        out[document + 1] = out[document] + size


@njit(nogil=True, cache=True)
def _decode(tokens, starts, stops, data, pieces, out, offsets):  # type: ignore[no-untyped-def]
    for document in range(len(starts)):
        at = offsets[document]
        for k in range(starts[document], stops[document]):
            for byte in range(pieces[tokens[k]], pieces[tokens[k] + 1]):
                out[at] = data[byte]
                at += 1


def _strip(
    data: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Drops the space that sentencepiece puts before a document."""
    first = offsets[:-1][np.diff(offsets) > 0]
    keep = np.ones(len(data), np.bool_)
    keep[first[data[first] == ord(" ")]] = False
    kept = np.concatenate([[0], np.cumsum(keep)])
    return data[keep], kept[offsets].astype(np.int64)
