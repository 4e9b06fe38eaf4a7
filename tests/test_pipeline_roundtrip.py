"""Tokens decode to the text: every byte-level document is checked, others say why they may not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from configs.build import TokenizerConfig
from pipeline.bpe import train
from pipeline.encoders import Encoded, ReferenceEncoder
from pipeline.errors import BuildError
from pipeline.roundtrip import Checked, RoundTrip

TEXTS = ["the cat", "", "caf\u00e9 \u2603 e\u0301 <|endoftext|>", "  \n\t 12"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(iter([["the cat sat on the mat"] * 9]), TokenizerConfig(vocab_size=270)).save(str(path))
    return path


def changed(tokenizer: Path, folder: Path, **changes: Any) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps(json.loads(tokenizer.read_text()) | changes))
    return path


def texts_of(rows: list[str]) -> Any:
    return pa.array(rows, pa.large_string())


def test_every_text_of_a_byte_level_tokenizer_comes_back(tokenizer: Path) -> None:
    assert RoundTrip(tokenizer).why_not is None
    encoded = ReferenceEncoder(tokenizer).encode(TEXTS)
    # A slice of a longer column: its buffers hold more than its documents.
    column = texts_of(["before", *TEXTS, "after"]).slice(1, len(TEXTS))
    assert RoundTrip(tokenizer).check(column, encoded) == Checked(4, 0)


@pytest.mark.parametrize("damage", ["other token", "one less", "one more", "border moved"])
def test_a_wrong_encoder_stops_the_build(tokenizer: Path, damage: str) -> None:
    ids, offsets = ReferenceEncoder(tokenizer).encode(["the cat", "sat on"])
    if damage == "other token":
        ids = np.where(np.arange(len(ids)) == 1, ids[0], ids).astype(np.uint32)
    elif damage == "one less":
        ids, offsets = ids[:-1], offsets - np.array([0, 0, 1])
    elif damage == "one more":
        ids, offsets = np.append(ids, ids[0]), offsets + np.array([0, 0, 1])
    else:
        offsets = offsets + np.array([0, 1, 0])
    with pytest.raises(BuildError, match=r"do not decode to it.*`tokenizer.encoder: tokenizers`"):
        RoundTrip(tokenizer).check(texts_of(["the cat", "sat on"]), Encoded(ids, offsets))


def test_a_normalizer_is_named_and_what_it_changed_is_counted(
    tokenizer: Path, tmp_path: Path
) -> None:
    path = changed(tokenizer, tmp_path, normalizer={"type": "NFKC"})
    assert RoundTrip(path).why_not == "normalizer NFKC"
    check, encoder = RoundTrip(path), ReferenceEncoder(path)
    for text, failed in (("the cat", 0), ("the \ufb01sh", 1)):  # a ligature
        assert check.check(texts_of([text, "x"]), encoder.encode([text, "x"])) == (2, failed)


def test_bytes_that_the_vocabulary_lacks_are_lost_and_counted(
    tokenizer: Path, tmp_path: Path
) -> None:
    model = json.loads(tokenizer.read_text())["model"]
    del model["vocab"]["\u00e2"]  # stands for the byte e2, the first of a snowman's three
    path = changed(tokenizer, tmp_path, model=model)
    assert RoundTrip(path).why_not == "vocabulary lacks bytes e2"
    encoded = ReferenceEncoder(path).encode(TEXTS)
    assert RoundTrip(path).check(texts_of(TEXTS), encoded) == Checked(4, 1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "not byte-level: model BPE, decoder ByteLevel"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
            "pre-tokenizer puts a space before the text",
        ),
    ],
)
def test_other_tokenizers_say_why(
    tokenizer: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    assert RoundTrip(changed(tokenizer, tmp_path, **changes)).why_not == why
