"""Words and hits from packed tokens equal those from their text, for all kinds of tokenizers."""

import gzip
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from contamination.corpus import TokenBatch, batch_of
from contamination.index import build_index
from contamination.items import Benchmark, Item
from contamination.scan import scan, scan_tokens
from contamination.surprisal import vocabulary_of
from contamination.token_words import (
    TokenTable,
    as_kernel_argument,
    document_sizes,
    token_table,
    words_of_tokens,
)
from contamination.words import hash_words
from shards.detokenize import byte_table
from tests.test_contamination_words import PIECES

TESTDATA = os.environ.get("TALLY_TESTDATA")


def words_of(table: TokenTable, ids: list[int]) -> tuple[list[int], list[int], list[int]]:
    tokens = np.array(ids, np.uint32)
    size = np.zeros(1, np.int64)
    document_sizes(tokens, np.array([0]), np.array([len(ids)]), table.rows, size)
    room = int(size[0]) + 2
    hashes, spans = np.empty(room, np.uint64), np.empty((2, room), np.int64)
    buffer = np.empty(room, np.uint8)
    count = words_of_tokens(
        tokens, 0, len(ids), as_kernel_argument(table), buffer, hashes, spans[0], spans[1]
    )
    return hashes[:count].tolist(), spans[0, :count].tolist(), spans[1, :count].tolist()


def words_of_text(data: bytes) -> tuple[list[int], list[int], list[int]]:
    found = hash_words(np.frombuffer(data, np.uint8), np.array([0, len(data)]), False)
    return found.hash.tolist(), found.start.tolist(), found.end.tolist()


MADE = [*PIECES, " the", "the", " Question", "An", "swer", ":", ": ", " b", "c", "1", "don", "'t",
        "-x", "x-", " a-b", "\n\n", "..", "  ", "' ", " '", "s' ", ",word", "amp", "b>", "r/",
        "&#"]  # fmt: skip
MADE = [piece for piece in dict.fromkeys(MADE) if piece.isascii() or piece.isprintable()]


def made_table(byte_fallback: bool) -> tuple[TokenTable, list[bytes]]:
    """A vocabulary of pieces; with a fallback to bytes, decoding drops a document's first space."""
    pieces = [piece.replace(" ", "\u2581") if byte_fallback else piece for piece in MADE]
    names = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    vocabulary = {name: k for k, name in enumerate(dict.fromkeys([*names, *pieces]))}
    if byte_fallback:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    else:
        encoded = {}
        for k, piece in enumerate(vocabulary):
            encoded[_byte_level(piece)] = k
        tokenizer = Tokenizer(models.BPE(vocab=encoded, merges=[]))
        tokenizer.decoder = decoders.ByteLevel()
    table = byte_table(tokenizer)
    data = table.data.tobytes()
    parts = [data[a:b] for a, b in pairwise(table.offsets)]
    return token_table(table), parts


def _byte_level(text: str) -> str:
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(p for p, _ in ByteLevel(False, use_regex=False).pre_tokenize_str(text))


BYTE_LEVEL, FALLBACK = made_table(False), made_table(True)


@settings(max_examples=600)
@given(st.data())
@pytest.mark.parametrize("made", [BYTE_LEVEL, FALLBACK], ids=["byte level", "byte fallback"])
def test_words_of_tokens_equal_words_of_their_text(
    made: tuple[TokenTable, list[bytes]], data: Any
) -> None:
    table, parts = made
    choice = st.integers(256 if table.bytes.strip_space else 0, len(parts) - 1)
    ids = data.draw(st.lists(choice, max_size=25))
    if table.bytes.strip_space and ids:  # characters that have no token of their own
        ids += [0xC3, 0xA9, *ids[:2], 0xE4, 0xB8, 0xAD]
    text = b"".join(parts[k] for k in ids)
    if table.bytes.strip_space and parts[ids[0]][:1] == b" " if ids else False:
        text = text[1:]
    assert words_of(table, ids) == words_of_text(text)


TOKENIZERS = sorted(Path(f"{TESTDATA}/tokenizers").iterdir()) if TESTDATA else []


def real_texts() -> list[str]:
    root = Path(f"{TESTDATA}/corpora")
    texts = []
    for name in ("c4/c4_en_first1000", "math/planetmath", "edu/openstax_anatomy_physiology"):
        with gzip.open(root / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line, _ in zip(file, range(150), strict=False)]
    for path in sorted(root.glob("*/zh*.jsonl.gz"))[:1]:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line, _ in zip(file, range(100), strict=False)]
    return [text for text in texts if text]


@pytest.mark.skipif(not TESTDATA, reason="TALLY_TESTDATA is not set: no real tokenizers")
@pytest.mark.parametrize("folder", TOKENIZERS, ids=lambda path: path.name)
def test_hits_in_tokens_equal_hits_in_text(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    texts = real_texts()
    items = tuple(Item(str(k), text[200:500], text[500:600]) for k, text in enumerate(texts[::7]))
    index = build_index([Benchmark("made", "test", "", items)])
    vocabulary = vocabulary_of(index.sequences)
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    lengths = np.array([len(one) for one in ids])
    stops = np.cumsum(lengths)
    starts = stops - lengths
    tokens = np.array([token for one in ids for token in one], np.uint32)
    pieces = byte_table(tokenizer)
    table = token_table(pieces)
    sizes = np.empty(len(ids), np.int64)
    document_sizes(tokens, starts, stops, table.rows, sizes)
    data, offsets = pieces.decode(tokens, starts, stops)
    from_tokens = scan_tokens(TokenBatch(tokens, starts, stops, sizes, table), index, vocabulary)
    from_text = scan(data, offsets, index, vocabulary)
    assert len(from_text.hits) > 1000
    assert np.array_equal(from_tokens.hits, from_text.hits)
    assert np.array_equal(from_tokens.counts, from_text.counts)
    assert from_tokens.words == from_text.words
    decoded = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    same = [k for k, text in enumerate(texts) if decoded[k] == text.encode()]
    assert len(same) > 0.9 * len(texts)  # sentencepiece drops a leading space
    own = batch_of([texts[k].encode() for k in same])
    at = scan(own.data, own.offsets, index, vocabulary).hits
    assert np.array_equal(
        at["start"], from_tokens.hits["start"][np.isin(from_tokens.hits["document"], same)]
    )
