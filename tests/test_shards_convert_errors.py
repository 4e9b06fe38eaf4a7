"""What is wrong with files of others is said: what, where, why, and the way out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shards.convert import chosen_parts
from shards.convert_files import new_directory
from shards.convert_import import Wanted
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.manifest import Manifest, seal
from shards.reader import Dataset
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


def _patch(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def _first(directory: Path, pattern: str) -> Path:
    return min(directory.rglob(pattern))


def _cut(directory: Path, pattern: str, count: int) -> None:
    path = _first(directory, pattern)
    os.truncate(path, path.stat().st_size - count)


def _le(value: int, dtype: str) -> bytes:
    return np.array([value], dtype).tobytes()


def _without_tokens(directory: Path) -> None:
    path = _first(directory, "*.parquet")
    pl.read_parquet(path).drop("tokens").write_parquet(path)


def _without_bins(directory: Path) -> None:
    for path in directory.rglob("*.bin"):
        path.unlink()


def _same_ids(directory: Path) -> None:
    for path in directory.rglob("*.parquet"):
        pl.read_parquet(path).with_columns(id=pl.lit("same")).write_parquet(path)


Spoil = Callable[[Path], object]
CASES: list[tuple[str, Spoil, str]] = [
    ("nanogpt", lambda d: _cut(d, "*.bin", 1), r"no whole number of uint16 tokens"),
    ("nanogpt", lambda d: _cut(d, "*.bin", 2), r"a/train.bin: no EOS 0 after token 40"),
    (
        "nanogpt",
        lambda d: _patch(_first(d, "*.bin"), 6, _le(999, "<u2")),
        r"a/train.bin: id 999 at token 3, the tokenizer has 257 entries",
    ),
    ("nanogpt", _without_bins, r"no files that end in .bin"),
    ("nanogpt", lambda d: (d / "tokenizer.json").unlink(), r"name the tokens' tokenizer with"),
    ("nanogpt", lambda d: (d / "tokenizer.json").write_text("{}"), r"not a tokenizer.json"),
    ("llmc", lambda d: _patch(_first(d, "*.bin"), 0, _le(7, "<i4")), r"begins with 7, llm.c's"),
    ("llmc", lambda d: _patch(_first(d, "*.bin"), 4, _le(2, "<i4")), r"llm.c version 2, known is"),
    ("llmc", lambda d: _cut(d, "*.bin", 2), r"the header counts 11 tokens and the file holds 10"),
    ("llmc", lambda d: os.truncate(_first(d, "*.bin"), 9), r"shorter than a header"),
    ("megatron", lambda d: _first(d, "*.idx").unlink(), r"index train_00000.idx is missing"),
    ("megatron", lambda d: _patch(_first(d, "*.idx"), 0, b"X"), r"begins with b'XMIDIDX"),
    ("megatron", lambda d: _patch(_first(d, "*.idx"), 9, _le(3, "<u8")), r"version 3 at byte 9"),
    ("megatron", lambda d: _patch(_first(d, "*.idx"), 17, b"\x06"), r"dtype code 6 at byte 17"),
    ("megatron", lambda d: _cut(d, "*.idx", 3), r"1 sequences and 1 documents make 62"),
    ("megatron", lambda d: _cut(d, "*.bin", 2), r"10 tokens of uint16, the index says 11"),
    ("datatrove", lambda d: _first(d, "*.ds.index").unlink(), r"00000.ds.index is missing"),
    ("datatrove", lambda d: _cut(d, "*.ds", 2), r"20 bytes, the index ends at token 11"),
    ("datatrove", lambda d: _cut(d, "*.ds.index", 3), r"no whole number of uint64"),
    ("olmo", lambda d: _cut(d, "*.npy", 2), r"end at token 11 and the tokens at 10"),
    ("olmo", lambda d: _cut(d, "*.csv.gz", 9), r"part-00000.csv.gz: not readable"),
    ("parquet", lambda d: _cut(d, "*.parquet", 9), r"train-00000.parquet: not readable"),
    ("parquet", _without_tokens, r"no column 'tokens'; there are: id, text, origin"),
    ("parquet", _same_ids, r"7 documents share an id with another, 'same' for one"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One conversion of everything to every format, as files of their own."""
    base = tmp_path_factory.mktemp("errors")
    ours = narrow_dataset(base / "ours")
    for name in {name for name, _, _ in CASES}:
        export(ours, base / name, name)
    return base


@pytest.mark.parametrize(("name", "spoil", "said"), CASES)
def test_what_is_wrong_is_said(
    exported: Path, tmp_path: Path, name: str, spoil: Spoil, said: str
) -> None:
    # A plain copy: links would spoil the dataset that they came from.
    theirs = tmp_path / "theirs"
    subprocess.run(["cp", "-r", str(exported / name), str(theirs)], check=True)
    spoil(theirs)
    with pytest.raises(DatasetError, match=said):
        bring(theirs, tmp_path / "back", name)
    assert list(tmp_path.iterdir()) == [theirs]  # nothing half-made is left


def test_wrong_tokens_are_pointed_out_by_file_and_place(tmp_path: Path) -> None:
    """EOS inside a document that an index holds together; at its start; nowhere."""
    ours = narrow_dataset(tmp_path / "ours")
    export(ours, tmp_path / "theirs", "datatrove")
    path = tmp_path / "theirs/a/train/00001.ds"
    path.write_bytes(_patched(path, 4))
    with pytest.raises(DatasetError, match=r"00001.ds: document 0 has EOS 0 inside, at token 2"):
        bring(tmp_path / "theirs", tmp_path / "back", "datatrove")
    with pytest.raises(DatasetError, match=r"document 0 \(tokens 0 to 11\) has no EOS 0 at its st"):
        bring(tmp_path / "theirs", tmp_path / "back", "datatrove", Wanted(eos_at="start"))
    with pytest.raises(DatasetError, match="no index says where documents end"):
        bring(path, tmp_path / "back", "nanogpt", Wanted(eos_at="none", tokenizer=_tokenizer(ours)))


def _patched(path: Path, offset: int) -> bytes:
    """The bytes with token EOS at `offset`; the file is unlinked so that ours stays whole."""
    content = bytearray(path.read_bytes())
    content[offset : offset + 2] = b"\0\0"
    path.unlink()
    return bytes(content)


def _tokenizer(dataset: Dataset) -> Path:
    return dataset.path / "tokenizer.json"


def test_headers_are_not_taken_for_tokens(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    export(ours, tmp_path / "llmc", "llmc")
    with pytest.raises(DatasetError, match=r"has llm\.c's header; read it with --from llmc"):
        bring(tmp_path / "llmc", tmp_path / "back", "nanogpt")
    save_tokenizer(tmp_path / "numpy")
    np.save(tmp_path / "numpy/part.npy", np.array([1, 0], dtype="<u2"))
    with pytest.raises(DatasetError, match="begins with a NumPy header"):
        bring(tmp_path / "numpy", tmp_path / "back", "olmo")


def test_wide_tokens_do_not_fit_nanogpt(tmp_path: Path) -> None:
    ours = wide_dataset(tmp_path / "ours")
    with pytest.raises(DatasetError, match="nanoGPT reads uint16 only; --to olmo"):
        export(ours, tmp_path / "theirs", "nanogpt")
    assert not (tmp_path / "theirs").exists()


def test_tokens_of_another_width_are_noticed(tmp_path: Path) -> None:
    """uint32 tokens of a small vocabulary, read as uint16, are full of id 0: that is our EOS."""
    save_tokenizer(tmp_path / "raw")
    text = "wide tokens, and enough of them to be sure"
    np.array([*ids_of(text), 0], dtype="<u4").tofile(tmp_path / "raw/train.bin")
    with pytest.raises(DatasetError, match="every second uint16 of the first 86 is 0"):
        bring(tmp_path / "raw", tmp_path / "ours", "nanogpt")
    bring(tmp_path / "raw", tmp_path / "ours", "nanogpt", Wanted(dtype="uint32"))
    assert texts_of(Dataset.open(tmp_path / "ours"), "raw") == [text]
    np.array([*ids_of(text), 0], dtype="<u2").tofile(tmp_path / "raw/train.bin")
    with pytest.raises(DatasetError, match=r"tokens of 4 bytes; cut off, or of another|id \d+ at"):
        bring(tmp_path / "raw", tmp_path / "wrong", "nanogpt", Wanted(dtype="uint32"))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(eos="</s>"), "--eos '</s>': no such token in the tokenizer; known: "),
        (Wanted(source="../x"), "'../x': not a name for a source"),
        (Wanted(tokenizer=Path("none.json")), "none.json: no such file; name the tokens'"),
    ],
)
def test_what_the_user_says_is_checked(tmp_path: Path, wanted: Wanted, said: str) -> None:
    save_tokenizer(tmp_path / "raw")
    np.array([*ids_of("text"), 0], dtype="<u2").tofile(tmp_path / "raw/train.bin")
    with pytest.raises(DatasetError, match=said):
        bring(tmp_path / "raw", tmp_path / "ours", "nanogpt", wanted)


def test_equal_texts_in_two_splits_are_told(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "raw")
    for split in ("train", "val"):
        np.array([*ids_of("text"), 0], dtype="<u2").tofile(tmp_path / f"raw/{split}.bin")
    notes = bring(tmp_path / "raw", tmp_path / "ours", "nanogpt").notes
    assert notes == ["1 texts are in more than one split; `tally verify` will refuse the dataset"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("megatorn", "did you mean 'megatron'"), ("mds", "There are: nanogpt, llmc, megatron")],
)
def test_unknown_formats_get_the_nearest_name(tmp_path: Path, name: str, said: str) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    with pytest.raises(DatasetError, match=said):
        export(ours, tmp_path / "theirs", name)


def test_what_to_export_is_checked(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    with pytest.raises(DatasetError, match="no source 'c'; there are: a, b"):
        chosen_parts(ours, "c", None)
    with pytest.raises(DatasetError, match="no tokens in split 'val' of b"):
        chosen_parts(ours, "b", "val")
    with pytest.raises(DatasetError, match="inside the dataset"):
        export(ours, ours.path / "out", "olmo")
    os.truncate(ours.path / "a/train/00002.bin", 4)
    with pytest.raises(DatasetError, match=r"00002.bin: 4 bytes, the manifest says"):
        export(ours, tmp_path / "theirs", "olmo")


def test_a_conversion_given_again_changes_nothing_and_another_is_refused(
    tmp_path: Path,
) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    target = tmp_path / "theirs"
    for _ in range(2):  # the second time as after a kill between the rename and the exit
        export(ours, target, "olmo")
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    with pytest.raises(DatasetError, match="theirs: exists; remove it"):
        export(ours, target, "parquet")
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_nothing_is_overwritten_and_nothing_shared(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with (
        pytest.raises(DatasetError, match="taken: exists; remove it"),
        new_directory(tmp_path / "taken"),
    ):
        pass
    with (
        new_directory(tmp_path / "new") as first,
        pytest.raises(DatasetError, match="another conversion is writing it"),
        new_directory(tmp_path / "new"),
    ):
        pass
    assert not first.exists()
    assert (tmp_path / "new").is_dir()


def test_texts_that_the_tokenizer_changed_are_counted(tmp_path: Path) -> None:
    """The index says another content hash than the decoded text has."""
    ours = narrow_dataset(tmp_path / "ours")
    index = ours.path / "a/train/00000.docs.parquet"
    changed = pl.read_parquet(index).with_columns(content_hash=pl.lit(b"x" * 16))
    changed.write_parquet(index)
    values = ours.manifest.model_dump(mode="json")
    shard = values["sources"]["a"]["splits"]["train"]["shards"][0]
    shard |= {"index_bytes": index.stat().st_size, "index_blake3": blake3_file(index)}
    seal(ours.path, Manifest.model_validate(values))
    output = export(Dataset.open(ours.path), tmp_path / "theirs", "parquet")
    assert output.notes == [
        f"a/train: the text of 1 of {len(TEXTS)} documents differs from the original "
        "(the tokenizer normalises); tokens are exact"
    ]


def test_llmc_counts_in_int32(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    values = ours.manifest.model_dump(mode="json")
    values["sources"]["b"]["splits"]["train"]["shards"][0]["tokens"] = 2**31
    seal(ours.path, Manifest.model_validate(values))
    with pytest.raises(DatasetError, match=r"llm\.c's header counts in int32"):
        export(Dataset.open(ours.path), tmp_path / "theirs", "llmc")


def test_the_command_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tally", "convert", str(tmp_path), str(tmp_path / "x")]
    for more, said in (
        ([], "give either --to FORMAT or --from FORMAT"),
        (["--to", "olmo", "--eos", "x"], "--to takes --source and --split; the other options"),
    ):
        result = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: {said}")
