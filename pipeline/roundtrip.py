"""Do the tokens of a document decode to its text? Checked while documents are encoded.

A byte-level tokenizer without a normalizer gives back any text; of others the dataset's manifest
says what changes the text, and how often it did. Where tokens stand for bytes, every document is
checked, by a comparison of bytes; elsewhere one of a batch, which `tokenizers` decodes.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.encoders import Encoded
from pipeline.errors import BuildError
from pipeline.tokenizer_file import Json, added_tokens, contents, model_tokens
from shards.detokenize import ByteTable, table_of
from shards.errors import DatasetError

_SPACE = np.uint8(ord(" "))
_WORD = 8
"""Bytes that are compared at once."""
_UTF8_BYTES = frozenset(range(0xF5)) - {0xC0, 0xC1}


class Checked(NamedTuple):
    """Documents that were decoded again."""

    documents: int
    failed: int
    """Of them, those whose text did not come back exactly."""


def total(parts: Iterable[Checked]) -> Checked:
    """All of them together."""
    return Checked(*map(sum, zip(*parts, strict=True)))


def _not_bytes(values: Json) -> str | None:
    """Why tokens do not simply stand for the bytes of the text."""
    steps = _parts(values, "pre_tokenizer", "pretokenizers")
    decoders = [step["type"] for step in _parts(values, "decoder", "decoders")]
    if normalizers := [step["type"] for step in _parts(values, "normalizer", "normalizers")]:
        return f"normalizer {', '.join(normalizers)}"
    if "ByteLevel" not in [step["type"] for step in steps] or decoders != ["ByteLevel"]:
        return f"not byte-level: model {values['model']['type']}, decoder {', '.join(decoders)}"
    if any(step.get("add_prefix_space") for step in steps):
        return "pre-tokenizer puts a space before the text"
    return None


def _lacking_bytes(table: ByteTable) -> str | None:
    """The bytes that text can have and the vocabulary has not: they get lost."""
    lacking = sorted(_UTF8_BYTES - table.single_bytes())
    return f"vocabulary lacks bytes {' '.join(f'{b:02x}' for b in lacking)}" if lacking else None


def _parts(values: Json, name: str, parts: str) -> list[Json]:
    """The steps of a part of a tokenizer.json, which may be none, one, or a sequence."""
    found = values.get(name) or {}
    return [found] if found and parts not in found else list(found.get(parts, []))


class RoundTrip:
    """Counts documents that do not come back.

    Args:
        tokenizer: the tokenizer.json.

    Attributes:
        why_not: what in the tokenizer may keep a text from coming back; None where nothing does.
    """

    def __init__(self, tokenizer: Path) -> None:
        values = contents(tokenizer)
        self._path, self.why_not = tokenizer, _not_bytes(values)
        self._tokens, self._reference = None, None
        try:
            table = table_of(model_tokens(values), added_tokens(values), values["decoder"])
            self._tokens = _token_bytes(table)
            self.why_not = self.why_not or _lacking_bytes(table)
        except DatasetError:  # decoding is more than putting bytes together
            self._reference = Tokenizer.from_file(str(tokenizer))

    def check(self, texts: pa.LargeStringArray, encoded: Encoded) -> Checked:
        """Decode the tokens of a batch.

        Args:
            texts: the documents, at least one, without nulls.
            encoded: their tokens.

        Raises:
            BuildError: a text does not come back, though the tokenizer changes none.
        """
        if self._reference is not None:
            ids = encoded.ids[: encoded.offsets[1]].tolist()
            came_back = self._reference.decode(ids, skip_special_tokens=False)
            return Checked(1, int(came_back != texts[0].as_py()))
        assert self._tokens is not None
        lost = _lost(*encoded, self._tokens, *_content(texts))
        if self.why_not is None and lost.any():
            text = texts[int(lost.argmax())].as_py()[:200]
            raise BuildError(
                f"the tokens of this text do not decode to it, though {self._path} is byte-level: "
                f"{text!r}; set `tokenizer.encoder: tokenizers`, and report it"
            )
        return Checked(len(texts), int(lost.sum()))


@lru_cache(2)
def round_trip_of(tokenizer: Path) -> RoundTrip:
    """The check for that tokenizer; tasks that run in one process share it."""
    return RoundTrip(tokenizer)


def _content(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The UTF-8 of all texts, one after the other, and the borders of each in it; no copy."""
    _, offsets, content = texts.buffers()
    borders = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(content or b"", np.uint8), borders


class _TokenBytes(NamedTuple):
    """What compiled code compares with a text."""

    heads: NDArray[np.uint64]
    """Of every token, its first eight bytes, the first the lowest; zeros after a shorter one."""
    sizes: NDArray[np.int32]
    masks: NDArray[np.uint64]
    """The bits of a head that a token of 0, 1, ... 8 bytes has."""
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    """Of every token in `data`."""
    strip_space: bool


def _token_bytes(table: ByteTable) -> _TokenBytes:
    """The same bytes, so that most tokens are one comparison."""
    sizes, places = np.diff(table.offsets), np.arange(_WORD)
    padded = np.concatenate([table.data, np.zeros(_WORD, np.uint8)])
    heads = padded[table.offsets[:-1, None] + places] * (places < sizes[:, None])
    masks = np.where(places < np.arange(_WORD + 1)[:, None], np.uint8(255), np.uint8(0))
    words = [part.astype(np.uint8).view("<u8")[:, 0] for part in (heads, masks)]
    return _TokenBytes(
        words[0], sizes.astype(np.int32), words[1], table.data, table.offsets, table.strip_space
    )


@intrinsic
def _word_at(typing: Any, text: Any, place: Any) -> Any:
    """Eight bytes of an array, the first the lowest; there must be so many from the place on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        word = ir.IntType(64)
        address = builder.bitcast(builder.gep(array.data, [values[1]]), word.as_pointer())
        return builder.load(address, align=1)

    return types.uint64(text, types.uint64), generate


@njit(nogil=True, cache=True)
def _lost(
    ids: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    tokens: _TokenBytes,
    text: NDArray[np.uint8],
    borders: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Of every document, whether the bytes of its tokens are not its text."""
    out, last = np.zeros(len(borders) - 1, np.bool_), len(text) - _WORD
    for document in range(len(out)):
        place, end = borders[document], borders[document + 1]
        differing, strip = np.uint64(0), tokens.strip_space
        for token in ids[offsets[document] : offsets[document + 1]]:
            size, compared = np.int64(tokens.sizes[token]), np.int64(0)
            if strip and size:
                compared = np.int64(tokens.data[tokens.starts[token]] == _SPACE)
                place, strip = place - compared, False
            elif place <= last:
                bits = tokens.masks[np.minimum(size, _WORD)]
                differing |= (_word_at(text, place) ^ tokens.heads[token]) & bits
                compared = np.int64(_WORD)
            if place + size > end:
                differing = np.uint64(1)
                break
            for byte in range(compared, size):
                expected = tokens.data[tokens.starts[token] + byte]
                differing |= np.uint64(expected ^ text[place + byte])
            place += size
        out[document] = differing != 0 or place != end
    return out
