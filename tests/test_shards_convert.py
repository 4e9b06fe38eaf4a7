"""Ours to theirs and back: same tokens, same documents; and exactly the bytes that others read."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from shards.convert import FORMATS, chosen_parts, export_dataset
from shards.convert_import import Wanted
from shards.reader import Dataset
from shards.verify import verify_dataset
from tests.helpers_convert import (
    TEXTS,
    bring,
    export,
    ids_of,
    narrow_dataset,
    save_tokenizer,
    texts_of,
    wide_dataset,
)

ROOT = Path(__file__).parent.parent
LINKING = ["nanogpt", "megatron", "datatrove", "olmo"]
KEEPING_IDS = ["olmo", "parquet"]
OF_CONTENT = ["token_start", "token_count", "char_count", "byte_count", "content_hash"]
OF_ORIGIN = ["doc_id", "origin_file", "origin_row"]


def assert_same(back: Dataset, ours: Dataset, columns: list[str]) -> None:
    assert verify_dataset(back.path).problems == []
    pairs = [(s, p) for s, facts in ours.manifest.sources.items() for p in facts.splits]
    assert [(s, p) for s, facts in back.manifest.sources.items() for p in facts.splits] == pairs
    for source, split in pairs:
        old, new = ours.stream(source, split), back.stream(source, split)
        for mine, theirs in zip(old.facts.shards, new.facts.shards, strict=True):
            assert mine.blake3 == theirs.blake3
        assert_frame_equal(old.documents()[columns], new.documents()[columns])


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(tmp_path: Path, name: str) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    export(ours, tmp_path / "theirs", name)
    bring(tmp_path / "theirs", tmp_path / "back", name, Wanted(licence="CC0-1.0"))
    back = Dataset.open(tmp_path / "back")
    assert_same(back, ours, OF_CONTENT + (OF_ORIGIN if name in KEEPING_IDS else []))
    assert texts_of(back, "a") == TEXTS
    assert back.manifest.tokenizer.blake3 == ours.manifest.tokenizer.blake3
    assert {facts.licence for facts in back.manifest.sources.values()} == {"CC0-1.0"}


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "nanogpt"])
def test_round_trip_of_wide_tokens(tmp_path: Path, name: str) -> None:
    ours = wide_dataset(tmp_path / "ours")
    export(ours, tmp_path / "theirs", name)
    bring(tmp_path / "theirs", tmp_path / "back", name)
    back = Dataset.open(tmp_path / "back")
    assert back.stream("a").tokens(0, 3).dtype == np.uint32
    assert_same(back, ours, OF_CONTENT + (OF_ORIGIN if name in KEEPING_IDS else []))


@pytest.mark.parametrize("name", LINKING)
def test_token_files_are_links_to_ours(tmp_path: Path, name: str) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    output = export(ours, tmp_path / "theirs", name)
    inodes = {(ours.path / s.path).stat().st_ino for _, _, s in ours.manifest.shards()}
    assert output.linked
    for file in output.linked:
        assert (tmp_path / "theirs" / file).stat().st_ino in inodes
    # nanoGPT reads one file a split, so a's four shards are joined.
    assert output.copied == (["a/train.bin"] if name == "nanogpt" else [])


def test_another_filesystem_gets_a_copy_and_a_note(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other filesystem here")
    ours, there = narrow_dataset(tmp_path / "ours"), other / f"tally-test-{os.getpid()}"
    try:
        output = export(ours, there, "datatrove")
        assert (len(output.linked), len(output.copied)) == (0, 6)
        assert output.notes == ["copied what could have been linked: " + _cross_device()]
        assert (there / "b/train/00000.ds").read_bytes() == np.array(
            [*ids_of("only one"), 0], dtype="<u2"
        ).tobytes()
    finally:
        subprocess.run(["rm", "-r", str(there)], check=True)


def _cross_device() -> str:
    return f"{os.strerror(18)} (errno 18)"


def test_bytes_of_every_format(tmp_path: Path) -> None:
    """Two documents, 'ab' and '': tokens x, y, EOS, EOS."""
    save_tokenizer(tmp_path / "raw")
    tokens = np.array([*ids_of("ab"), 0, 0], dtype="<u2")
    tokens.tofile(tmp_path / "raw/train.bin")
    bring(tmp_path / "raw", tmp_path / "ours", "nanogpt", Wanted(source="s"))
    ours = Dataset.open(tmp_path / "ours")
    for name in FORMATS:
        export(ours, tmp_path / name, name)
    assert (tmp_path / "nanogpt/s/train.bin").read_bytes() == tokens.tobytes()

    header = [20240520, 1, 4] + [0] * 253
    expected = np.array(header, dtype="<i4").tobytes() + tokens.tobytes()
    assert (tmp_path / "llmc/s/s_train_000000.bin").read_bytes() == expected

    index = b"MMIDIDX\0\0" + np.array([1], "<u8").tobytes() + b"\x08"
    index += np.array([2, 3], "<u8").tobytes() + np.array([3, 1], "<i4").tobytes()
    index += np.array([0, 6, 0, 1, 2], "<i8").tobytes()
    assert (tmp_path / "megatron/s/train_00000.idx").read_bytes() == index

    ends = (tmp_path / "datatrove/s/train/00000.ds.index").read_bytes()
    assert ends == np.array([3, 4], "<u8").tobytes()
    metadata = (tmp_path / "datatrove/s/train/00000.ds.metadata").read_text()
    assert metadata == "tokenizer.json|2\n4\n4.00 T"

    lines = gzip.decompress((tmp_path / "olmo/s/train/part-00000.csv.gz").read_bytes())
    assert lines == b"0,3,s/train.bin#0,train.bin,0\r\n3,4,s/train.bin#1,train.bin,1\r\n"

    table = pl.read_parquet(tmp_path / "parquet/s/train-00000.parquet")
    assert table.schema["tokens"] == pl.List(pl.UInt16)
    assert table.rows(named=True) == [
        {
            "id": f"s/train.bin#{row}",
            "text": text,
            "tokens": [*ids_of(text), 0],
            "origin": {"file": "train.bin", "row": row, "url": None},
        }
        for row, text in enumerate(["ab", ""])
    ]


def test_the_result_says_what_it_was_made_of(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    export_dataset(chosen_parts(ours, "a", "val"), tmp_path / "theirs", "megatron")
    record = json.loads((tmp_path / "theirs/conversion.json").read_text())
    assert record["dataset_id"] == ours.manifest.dataset_id
    assert record["files"] == ["a/val_00000.bin"]
    assert [(p["source"], p["split"], p["tokens"]) for p in record["parts"]] == [("a", "val", 9)]
    bring(tmp_path / "theirs", tmp_path / "back", "megatron")
    pin = Dataset.open(tmp_path / "back").manifest.sources["a"].pin
    assert list(pin["files"]) == ["a/val_00000.bin", "a/val_00000.idx"]
    assert pin["files"]["a/val_00000.bin"]["bytes"] == 18


def test_documents_of_llmc_begin_with_eos_and_cross_files(tmp_path: Path) -> None:
    """As fineweb.py of build-nanogpt writes: EOS first, shards cut anywhere."""
    save_tokenizer(tmp_path / "fineweb10B")
    stream = np.array([0, *ids_of("one"), 0, 0, *ids_of("three")], dtype="<u2")
    for number, part in enumerate(np.split(stream, [3, 8])):
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, len(part)
        path = tmp_path / f"fineweb10B/fineweb_train_{number + 8:06d}.bin"
        path.write_bytes(header.tobytes() + part.tobytes())
    bring(tmp_path / "fineweb10B", tmp_path / "ours", "llmc", Wanted(eos_at="start"))
    ours = Dataset.open(tmp_path / "ours")
    assert verify_dataset(ours.path).problems == []
    assert texts_of(ours, "fineweb10B") == ["one", "", "three"]
    documents = ours.stream("fineweb10B").documents()
    assert documents["origin_file"].to_list() == [f"fineweb_train_00000{n}.bin" for n in (8, 9, 9)]


def _write_megatron(prefix: Path, sequences: list[list[int]], bounds: list[int]) -> None:
    """As Megatron writes a corpus of int32 tokens with several sequences a document."""
    tokens = np.array([i for sequence in sequences for i in sequence], dtype="<i4")
    tokens.tofile(prefix.with_suffix(".bin"))
    lengths = np.array([len(sequence) for sequence in sequences], dtype="<i4")
    places = (np.cumsum(lengths) - lengths).astype("<i8") * 4
    head = b"MMIDIDX\0\0" + np.array([1], "<u8").tobytes() + b"\x04"
    head += np.array([len(lengths), len(bounds)], "<u8").tobytes()
    arrays = lengths.tobytes() + places.tobytes() + np.array(bounds, "<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(head + arrays)


def test_documents_of_megatron_may_have_sequences_and_no_eos(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "corpus")
    sequences = [ids_of("two "), ids_of("parts"), ids_of("single")]
    _write_megatron(tmp_path / "corpus/my_text_document", sequences, [0, 2, 3])
    bring(tmp_path / "corpus", tmp_path / "ours", "megatron", Wanted(eos_at="none"))
    ours = Dataset.open(tmp_path / "ours")
    assert texts_of(ours, "corpus") == ["two parts", "single"]
    assert ours.manifest.tokenizer.dtype == "uint16"
    assert verify_dataset(ours.path).problems == []


def test_dolma_without_its_lines_is_cut_at_eos(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    export(ours, tmp_path / "theirs", "olmo")
    for path in (tmp_path / "theirs").rglob("*.csv.gz"):
        path.unlink()
    bring(tmp_path / "theirs", tmp_path / "back", "olmo")
    assert_same(Dataset.open(tmp_path / "back"), ours, OF_CONTENT)


def test_splits_and_sources_come_from_names(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "data")
    for text, path in (("t", "x.bin"), ("v", "x_valid.bin"), ("w", "web/deep/val/2.bin")):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        np.array([*ids_of(text), 0], dtype="<u2").tofile(tmp_path / "data" / path)
    bring(tmp_path / "data", tmp_path / "ours", "nanogpt")
    ours = Dataset.open(tmp_path / "ours")
    assert texts_of(ours, "data") == ["t"]
    assert texts_of(ours, "data", "val") == ["v"]
    assert texts_of(ours, "web", "val") == ["w"]
    # --split names what says nothing itself; held-out files stay held out.
    bring(tmp_path / "data", tmp_path / "one", "nanogpt", Wanted(source="all", split="extra"))
    one = Dataset.open(tmp_path / "one")
    assert texts_of(one, "all", "extra") == ["t"]
    assert texts_of(one, "all", "val") == ["w", "v"]


KILLED = """
import os, signal, sys
from pathlib import Path
from shards.convert import chosen_parts, export_dataset
from shards.convert_import import Wanted, import_dataset
from shards.reader import Dataset
calls = 0
def advance(size):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
source, name, to, back = Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5])
if not to.exists():
    export_dataset(chosen_parts(Dataset.open(source), None, None), to, name, advance)
import_dataset(to, back, name, Wanted(shard_tokens=24), advance)
"""


def _run_killed(at: int, source: Path, to: Path, back: Path) -> int:
    paths = [str(source), "llmc", str(to), str(back)]
    command = [sys.executable, "-c", KILLED, str(at), *paths]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _bytes(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_killed_at_any_moment_and_run_again(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    whole = tmp_path / "whole"
    assert _run_killed(0, ours.path, whole / "theirs", whole / "back") == 0
    again = tmp_path / "again"
    for at in (4, 7):  # while writing, while reading back
        assert _run_killed(at, ours.path, again / "theirs", again / "back") == -9
        assert not (again / "back").exists()
    assert _run_killed(0, ours.path, again / "theirs", again / "back") == 0
    assert _bytes(again) == _bytes(whole)


def test_the_command(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    for arguments in (
        [ours.path, tmp_path / "out", "--to", "olmo", "--source", "a"],
        [tmp_path / "out", tmp_path / "back", "--from", "olmo", "--licence", "MIT"],
    ):
        command = [sys.executable, "-m", "tally", "convert", *map(str, arguments)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"wrote {arguments[1]}" in result.stdout.replace("\n", "")
    assert list(Dataset.open(tmp_path / "back").manifest.sources) == ["a"]
