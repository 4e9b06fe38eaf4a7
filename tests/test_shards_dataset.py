"""Write, read, verify: what goes in comes out, and what is wrong is found."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.index import DocumentRow
from shards.manifest import load_manifest, seal
from shards.reader import Dataset
from shards.verify import verify_dataset
from shards.writer import SplitWriter, token_dtype
from tests.helpers import document, make_dataset

TEXTS = ["first text", "zweiter Text, länger", "third", "", "the fifth text\nhas two lines"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(
        tmp_path / "data", {"a": TEXTS, "b": ["only one"]}, {"a": ["held out"]}, shard_tokens=24
    )


def test_decoded_documents_are_the_texts(dataset: Dataset) -> None:
    stream = dataset.stream("a")
    assert len(stream.facts.shards) > 2
    texts = []
    for row in stream.documents().iter_rows(named=True):
        tokens = stream.tokens(row["token_start"], row["token_start"] + row["token_count"])
        assert tokens[-1] == 0
        texts.append(dataset.tokenizer().decode(tokens.tolist()))
    assert texts == TEXTS


def test_windows_overlap_by_one_token_and_cross_shards(dataset: Dataset) -> None:
    stream = dataset.stream("a")
    whole = stream.tokens(0, stream.num_tokens)
    assert stream.num_windows(10) == (stream.num_tokens - 1) // 10
    ids = np.arange(stream.num_windows(10))[::-1].copy()
    windows = stream.windows(ids, 10)
    for row, window in zip(windows, ids, strict=True):
        assert np.array_equal(row, whole[window * 10 : window * 10 + 11])


def test_questions_outside_the_data_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="no source 'c'; there are: a, b"):
        dataset.stream("c")
    with pytest.raises(DatasetError, match="no split of b 'val'; there are: train"):
        dataset.stream("b", "val")
    with pytest.raises(DatasetError, match="window ids"):
        dataset.stream("b").windows(np.array([1]), 8)


def test_equal_content_has_an_equal_id(tmp_path: Path) -> None:
    first, second = (make_dataset(tmp_path / d, {"a": TEXTS}) for d in ("one/x", "two/x"))
    assert first.manifest.dataset_id == second.manifest.dataset_id
    other = make_dataset(tmp_path / "three/x", {"a": [*TEXTS, "more"]})
    assert other.manifest.dataset_id != first.manifest.dataset_id


def test_a_sound_dataset_verifies(dataset: Dataset) -> None:
    report = verify_dataset(dataset.path)
    assert report.problems == []
    assert report.documents == 7
    assert report.tokens == sum(len(t.encode()) + 1 for t in [*TEXTS, "only one", "held out"])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: _flip(d / "a/train/00001.bin"), "a/train/00001.bin: checksum"),
        (lambda d: _flip(d / "a/train/00000.docs.parquet"), "00000.docs.parquet: checksum"),
        (lambda d: _flip(d / "tokenizer.json"), "tokenizer.json: checksum"),
        (lambda d: (d / "b/train/00000.bin").unlink(), "b/train/00000.bin: missing"),
        (lambda d: (d / "stray.bin").write_bytes(b"x"), "stray.bin: not in the manifest"),
        (lambda d: os.truncate(d / "b/train/00000.bin", 4), "4 bytes, the manifest says 18"),
    ],
)
def test_what_is_wrong_is_found(
    dataset: Dataset, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(dataset.path)
    assert any(said in problem for problem in verify_dataset(dataset.path).problems)


def _rewrite_shard(dataset: Dataset, change: Callable[[np.ndarray], None]) -> None:
    """Change a shard and make the manifest agree with its bytes, as a faulty builder would."""
    manifest = dataset.manifest
    path = dataset.path / "b/train/00000.bin"
    tokens = np.fromfile(path, dtype=np.uint16)
    change(tokens)
    tokens.tofile(path)
    values = manifest.model_dump(mode="json")
    values["sources"]["b"]["splits"]["train"]["shards"][0]["blake3"] = blake3_file(path)
    seal(dataset.path, type(manifest).model_validate(values))


def test_a_faulty_builder_is_caught(dataset: Dataset) -> None:
    _rewrite_shard(dataset, lambda tokens: tokens.__setitem__(2, 0))
    assert any("EOS and document ends differ" in p for p in verify_dataset(dataset.path).problems)
    _rewrite_shard(dataset, lambda tokens: tokens.__setitem__(2, 999))
    assert any("id 999 at token 2" in p for p in verify_dataset(dataset.path).problems)


def test_an_edited_manifest_is_refused(dataset: Dataset) -> None:
    path = dataset.path / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"name": "other"}))
    with pytest.raises(DatasetError, match="edited"):
        load_manifest(dataset.path)
    path.write_text(json.dumps(values | {"format_version": 2}))
    with pytest.raises(DatasetError, match="format version 2"):
        load_manifest(dataset.path)
    shards = values["sources"]["b"]["splits"]["train"]["shards"]
    shards[0]["path"] = "../outside.bin"
    path.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="leaves the dataset directory"):
        load_manifest(dataset.path)
    with pytest.raises(DatasetError, match="not a complete dataset"):
        load_manifest(dataset.path.parent)


def test_links_out_of_the_dataset_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.path / "b/train/00000.bin"
    shard.rename(tmp_path / "elsewhere.bin")
    shard.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(DatasetError, match="out of the dataset"):
        dataset.stream("b").tokens(0, 3)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [([1, 2], "do not end with EOS"), ([1, 0, 2, 0], "EOS 0 inside"), ([70_000, 0], "> uint16")],
)
def test_the_writer_refuses_bad_tokens(tmp_path: Path, tokens: list[int], said: str) -> None:
    writer = SplitWriter(tmp_path, "a", "train", token_dtype(256), 0, 100)
    row: DocumentRow = document("d", "text")
    with pytest.raises(DatasetError, match=said):
        writer.add(row, np.array(tokens, dtype=np.uint32))


def test_wide_vocabularies_get_wide_tokens() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
