"""Do the tokens of a document decode to its text? Checked while documents are encoded.

A byte-level tokenizer without a normalizer gives back any text; of others the dataset's manifest
says what changes the text, and how often it did. Where tokens stand for bytes, every document is
checked, by a comparison of bytes; elsewhere one of a batch, which `tokenizers` decodes.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.encoders import Encoded
from pipeline.errors import BuildError
from pipeline.tokenizer_file import Json, added_tokens, contents, model_tokens
from shards.detokenize import ByteTable, table_of
from shards.errors import DatasetError

_SPACE = np.uint8(ord(" "))
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
        self._table, self._reference = None, None
        try:
            self._table = table_of(model_tokens(values), added_tokens(values), values["decoder"])
            self.why_not = self.why_not or _lacking_bytes(self._table)
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
        assert self._table is not None
        table = self._table
        lost = _lost(*encoded, table.data, table.offsets, table.strip_space, *_content(texts))
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


@njit(nogil=True, cache=True)
def _lost(
    ids: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    content: NDArray[np.uint8],
    starts: NDArray[np.int64],
    strip_space: bool,
    text: NDArray[np.uint8],
    borders: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Of every document, whether the bytes of its tokens are not its text."""
    out = np.zeros(len(borders) - 1, np.bool_)
    for document in range(len(out)):
        place, end = np.uint64(borders[document]), np.uint64(borders[document + 1])
        differing, strip = np.uint8(0), strip_space
        for token in ids[offsets[document] : offsets[document + 1]]:
            start = np.uint64(starts[token])
            stop = np.uint64(starts[np.uint64(token) + np.uint64(1)])
            if strip and start < stop:
                start += np.uint64(content[start] == _SPACE)
                strip = False
            if place + (stop - start) > end:
                differing = np.uint8(1)
                break
            while start < stop:
                differing |= content[start] ^ text[place]
                start += np.uint64(1)
                place += np.uint64(1)
        out[document] = differing != 0 or place != end
    return out
