"""Training the tokenizer, encoding, splits: reproducible, specials as text, encoders equal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from configs.build import SplitConfig, TokenizerConfig
from pipeline.bpe import document_ends, train
from pipeline.decisions import split_of
from pipeline.encoder_check import compare
from pipeline.encoders import FastEncoder, ReferenceEncoder, adversarial_texts
from pipeline.errors import BuildError
from pipeline.fast_forms import fast_form
from shards.hashing import content_hash
from shards.tokenizer_file import load_tokenizer

EOS = "<|endoftext|>"
GAPS = (
    "",
    " ",
    "  ",
    "   ",
    "\n",
    " \n",
    "\n\n ",
    "\t\u00a0",
    "1",
    " 12",
    "\u0663\u00bd",
    "-",
    " -",
)
TEXTS = [f"the {a} of the {b} and the {a}{b}s" for a in "abcdefgh" for b in "stuvwxyz"] * 4


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(iter([TEXTS]), TokenizerConfig(vocab_size=320)).save(str(path))
    return path


def test_training_is_reproducible_and_eos_is_zero(tokenizer: Path) -> None:
    again = train(iter([TEXTS[:100], TEXTS[100:]]), TokenizerConfig(vocab_size=320))
    assert json.loads(again.to_str()) == json.loads(tokenizer.read_text())
    assert again.token_to_id(EOS) == 0
    assert again.get_vocab_size() == 320


@pytest.mark.parametrize("encoder", [FastEncoder, ReferenceEncoder])
def test_special_tokens_in_text_are_text(
    tokenizer: Path, encoder: type[FastEncoder] | type[ReferenceEncoder]
) -> None:
    text = f"one{EOS}two {EOS}"
    encoded = encoder(tokenizer).encode([text, "", "x"])
    assert 0 not in encoded.ids
    assert encoded.offsets[1] == encoded.offsets[2] == encoded.offsets[3] - 1
    ids = encoded.ids[: encoded.offsets[1]].tolist()
    assert Tokenizer.from_file(str(tokenizer)).decode(ids, skip_special_tokens=False) == text


def test_encoders_are_equal_on_adversarial_texts(tokenizer: Path) -> None:
    check = compare(tokenizer, {"hard": adversarial_texts(EOS), "easy": TEXTS})
    assert check["equal"] is True
    assert check["texts"] == {"hard": 22, "easy": 256}
    assert check["tokens"] > 5000


def test_an_unequal_encoder_is_found_out(tokenizer: Path, tmp_path: Path) -> None:
    # `tokenizers` honours a truncation in the file unless told not to; a normalizer that only one
    # of the two implements makes them differ or fail to load. Either way the answer is no.
    content = json.loads(tokenizer.read_text())
    content["model"]["type"] = "Unigram"
    content["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
    path = tmp_path / "unigram.json"
    path.write_text(json.dumps(content))
    check = compare(path, {"x": ["aaa b"]})
    assert check["equal"] is False
    assert check["why"]


DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
META = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}


@pytest.mark.parametrize(
    ("step", "new_step", "new_normalizers"),
    [
        ({"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}, "Split", None),
        (
            {"type": "Sequence", "pretokenizers": [DIGITS | {"individual_digits": False}, BYTES]},
            "Split",
            None,
        ),
        (META, None, ["Replace", "Replace"]),
        (META | {"prepend_scheme": "never"}, None, ["Replace"]),
        (BYTES, "ByteLevel", None),
    ],
)
def test_forms_that_fastokens_is_slow_with_are_written_otherwise(
    tokenizer: Path,
    tmp_path: Path,
    step: dict[str, Any],
    new_step: str | None,
    new_normalizers: list[str] | None,
) -> None:
    content = json.loads(tokenizer.read_text()) | {"pre_tokenizer": step}
    vocab = content["model"]["vocab"]
    borders = ["\u2581", "\u2581t", "\u0120\u0120", "th"]  # so that borders of pieces matter
    for token in [*borders, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]:
        vocab.setdefault(token, len(vocab))
    content["model"] |= {"unk_token": "<unk>", "byte_fallback": step["type"] == "Metaspace"}
    content["model"]["merges"] += [["\u2581", "t"], ["\u0120", "\u0120"], ["t", "h"]]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    new = json.loads(fast_form(json.loads(path.read_bytes())))
    found = new["pre_tokenizer"] or {"type": None}
    assert found.get("pretokenizers", [found])[0]["type"] == new_step
    steps = (new["normalizer"] or {}).get("normalizers")
    assert (steps and [s["type"] for s in steps]) == new_normalizers
    hard = [
        f"{a}{b}{c}" for a in ("", "x", " ", "the") for b in GAPS for c in ("7", "th", "'s", "")
    ]
    assert compare(path, {"hard": [*adversarial_texts(EOS), *hard]})["equal"] is True


def test_tokens_with_spaces_keep_their_merges(tokenizer: Path) -> None:
    content = json.loads(tokenizer.read_text())
    merges = content["model"]["merges"]
    assert json.loads(fast_form(json.loads(tokenizer.read_bytes())))["model"]["merges"][
        0
    ] == " ".join(merges[0])
    content["model"]["merges"] = [*merges, ["a b", "c"]]
    new = json.loads(fast_form(content))
    assert new["model"]["merges"] == content["model"]["merges"]


def test_a_given_tokenizer_must_know_eos(tokenizer: Path, tmp_path: Path) -> None:
    assert document_ends(tokenizer, TokenizerConfig()) == (None, 0, np.dtype("<u2"))
    with pytest.raises(BuildError, match=r"has no token '</s>'; set `tokenizer\.eos_token`"):
        document_ends(tokenizer, TokenizerConfig(eos_token="</s>"))
    with pytest.raises(BuildError, match=r"has no token '<s>'; set `tokenizer\.bos_token`"):
        document_ends(tokenizer, TokenizerConfig(bos_token="<s>"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BuildError, match=r"not a tokenizer\.json"):
        load_tokenizer(tmp_path / "bad.json", BuildError)
    with pytest.raises(BuildError, match=r"json: not a tokenizer\.json \(KeyError\('model'\)\)"):
        document_ends(tmp_path / "bad.json", TokenizerConfig())


def test_validation_share_and_independence() -> None:
    hashes = [content_hash(f"document {i}") for i in range(20_000)]
    config = SplitConfig(val_fraction=0.05, seed=7)
    val = np.array([split_of(digest, config) == "val" for digest in hashes])
    assert abs(val.mean() - 0.05) < 0.005
    other = np.array([split_of(d, SplitConfig(val_fraction=0.05, seed=8)) == "val" for d in hashes])
    assert (val & other).mean() < 0.006  # another seed, another choice
    assert {split_of(d, SplitConfig(val_fraction=0)) for d in hashes} == {"train"}
    # A golden value: the choice must never change between releases.
    assert np.flatnonzero(val[:200]).tolist() == [27, 54, 58, 89, 108, 115, 128, 159, 162, 177]
