"""Datasets on S3: a local server, read through fsspec as a real one is, copied file by file."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from shards.errors import DatasetError
from shards.reader import Dataset
from shards.verify import total_bytes, verify_dataset
from tests.helpers import make_dataset

ROOT = Path(__file__).parent.parent
TEXTS = {"a": [f"text {n} of a, which is a little longer" for n in range(40)], "b": ["other"] * 9}


class Bucket:
    """A dataset here and in a bucket, and an empty cache."""

    def __init__(self, local: Dataset, files: Any, cache: Path) -> None:
        self.local, self.files, self.cache = local, files, cache
        self.copy = cache / "datasets" / local.manifest.dataset_id
        files.put(str(local.path) + "/", "data/set/", recursive=True)

    def held(self) -> set[str]:
        return {p.relative_to(self.copy).as_posix() for p in self.copy.rglob("*") if p.is_file()}


ADDRESS = "s3://data/set"


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TALLY_CACHE_LIMIT_GB", raising=False)
    files = fsspec.filesystem("s3")
    if files.exists("data"):
        files.rm("data", recursive=True)
    files.makedirs("data", exist_ok=True)
    local = make_dataset(tmp_path / "local", TEXTS, {"a": ["held out"]}, shard_tokens=300)
    return Bucket(local, files, tmp_path / "cache")


def test_files_come_when_they_are_read(bucket: Bucket) -> None:
    remote = Dataset.open(ADDRESS)
    assert remote.manifest == bucket.local.manifest
    assert bucket.held() == {"manifest.json"}
    ours, theirs = bucket.local.stream("a"), remote.stream("a")
    last = ours.num_tokens
    assert (theirs.tokens(last - 20, last) == ours.tokens(last - 20, last)).all()
    shards = ours.facts.shards
    assert len(shards) > 3
    assert bucket.held() == {"manifest.json", shards[-1].path}
    assert theirs.documents().equals(ours.documents())
    assert (theirs.tokens(0, last) == ours.tokens(0, last)).all()
    assert remote.tokenizer().to_str() == bucket.local.tokenizer().to_str()
    bucket.files.rm("data/set", recursive=True)
    bucket.files.pipe("data/set/manifest.json", (bucket.copy / "manifest.json").read_bytes())
    assert (Dataset.open(ADDRESS).stream("a").tokens(0, last) == ours.tokens(0, last)).all()


def test_a_whole_copy_is_sound(bucket: Bucket) -> None:
    remote = Dataset.open(ADDRESS)
    arrived: list[float] = []
    remote.files.fetch_all(arrived.append)
    assert bucket.held() == bucket.local.manifest.files()
    assert verify_dataset(remote.path).problems == []
    assert sum(arrived) == total_bytes(remote.path)
    bucket.files.pipe("data/set/stray.bin", b"x")
    with pytest.raises(DatasetError, match=r"1 file\(s\) not in the manifest: stray.bin"):
        Dataset.open(ADDRESS).files.fetch_all(arrived.append)


def test_a_fetch_that_was_cut_short_goes_on(bucket: Bucket) -> None:
    shard = bucket.local.stream("a").facts.shards[0]
    whole = (bucket.local.path / shard.path).read_bytes()
    remote = Dataset.open(ADDRESS)
    part = bucket.copy / Path(shard.path).with_name(".00000.bin.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(whole[:100])
    bucket.files.pipe(f"data/set/{shard.path}", b"\0" * 100 + whole[100:])  # the rest is enough
    assert remote.files.path(shard.path).read_bytes() == whole
    assert not part.exists()


def test_damage_on_the_way_is_found_and_the_file_fetched_anew(bucket: Bucket) -> None:
    shard = bucket.local.stream("a").facts.shards[0]
    good = (bucket.local.path / shard.path).read_bytes()
    bucket.files.pipe(f"data/set/{shard.path}", bytes([good[0] ^ 1]) + good[1:])
    remote = Dataset.open(ADDRESS)
    with pytest.raises(DatasetError, match=r"s3://data/set/a/train/00000.bin: checksum differs"):
        remote.files.path(shard.path)
    assert shard.path not in bucket.held()
    bucket.files.pipe(f"data/set/{shard.path}", good)
    assert remote.files.path(shard.path).read_bytes() == good
    bucket.files.pipe(f"data/set/{shard.path}", good[:-2])
    shutil.rmtree(bucket.copy / "a")
    with pytest.raises(DatasetError, match=f"{len(good) - 2} bytes, the manifest says {len(good)}"):
        remote.files.path(shard.path)


def test_what_is_not_there_is_said(bucket: Bucket) -> None:
    with pytest.raises(DatasetError, match=r"s3://data/none: not there; give the address"):
        Dataset.open("s3://data/none")
    with pytest.raises(DatasetError, match=r"none://x: the storage cannot be used"):
        Dataset.open("none://x")
    raw = json.loads(bucket.files.cat_file("data/set/manifest.json"))
    bucket.files.pipe("data/set/manifest.json", json.dumps(raw | {"name": "other"}).encode())
    with pytest.raises(DatasetError, match=r"s3://data/set/manifest.json: dataset_id is"):
        Dataset.open(ADDRESS)


def test_two_processes_fetch_a_file_once(bucket: Bucket) -> None:
    """While this process holds the file's lock, another one waits, and then finds the file."""
    shard = bucket.local.stream("a").facts.shards[0]
    target = bucket.copy / shard.path
    target.parent.mkdir(parents=True)
    code = (
        "from shards.reader import Dataset\n"
        f"d = Dataset.open({ADDRESS!r}); print('open', flush=True)\n"
        f"print(d.files.path({shard.path!r}))"
    )
    with target.with_name(".00000.bin.part").open("ab") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        bucket.files.rm(f"data/set/{shard.path}")  # whoever fetches now fails
        shutil.copyfile(bucket.local.path / shard.path, target)
    assert process.communicate(timeout=60)[0].strip() == str(target)
    assert process.returncode == 0
    assert bucket.held() == {"manifest.json", shard.path}


def test_copies_that_nobody_reads_give_way(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def other(name: str) -> str:
        made = make_dataset(tmp_path / name, {"a": [f"{name} {n}" for n in range(99)]})
        bucket.files.put(str(made.path) + "/", f"data/{name}/", recursive=True)
        return made.manifest.dataset_id

    ids = {name: other(name) for name in ("old", "read")}
    Dataset.open("s3://data/old").files.fetch_all(lambda _: None)
    still_read = Dataset.open("s3://data/read")
    still_read.files.fetch_all(lambda _: None)
    size = sum(p.stat().st_size for p in bucket.cache.rglob("*") if p.is_file())
    monkeypatch.setenv("TALLY_CACHE_LIMIT_GB", str((size + 100) / 1e9))
    third = Dataset.open(ADDRESS)
    third.files.path(bucket.local.stream("a").facts.shards[0].path)
    kept = {path.name for path in (bucket.cache / "datasets").iterdir() if path.is_dir()}
    assert kept == {ids["read"], bucket.local.manifest.dataset_id}
    monkeypatch.setenv("TALLY_CACHE_LIMIT_GB", "0.000001")
    with pytest.raises(DatasetError, match=r"LIMIT_GB is 0\.000001 and"):
        third.tokenizer()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["inspect"], "dataset"), (["verify"], "sound: dataset")],
)
def test_commands_take_addresses(bucket: Bucket, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "tally", *arguments, ADDRESS]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"{said} {bucket.local.manifest.dataset_id}" in result.stdout


def test_windows_of_a_dataset_larger_than_the_cache(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some shards fit, the others are read by blocks; the tokens are the same in any order."""
    monkeypatch.setattr("shards.blocks.BLOCK_BYTES", 128)
    ours = bucket.local.stream("a")
    sizes = [shard.bytes for shard in ours.facts.shards]
    remote = Dataset.open(ADDRESS)
    manifest_bytes = (bucket.copy / "manifest.json").stat().st_size
    limit = manifest_bytes + sizes[0] + sizes[1] + 10
    monkeypatch.setenv("TALLY_CACHE_LIMIT_GB", str(limit / 1e9))
    theirs = remote.stream("a")
    ids = np.random.default_rng(0).permutation(ours.num_windows(16))
    for rows in (False, True):
        assert (theirs.windows(ids, 16, rows) == ours.windows(ids, 16, rows)).all()
    shards = {shard.path for shard in ours.facts.shards}
    assert len(shards) > 3
    assert len(bucket.held() & shards) == 2
    assert sum(p.stat().st_size for p in bucket.copy.rglob("*") if p.is_file()) <= limit
    absent = min(shards - bucket.held())
    good = (bucket.local.path / absent).read_bytes()
    bucket.files.pipe(f"data/set/{absent}", good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DatasetError, match=rf"{absent}: bytes from \d+ on are not what they were"):
        Dataset.open(ADDRESS).stream("a").windows(ids, 16)
    shutil.rmtree(bucket.copy.with_name(f"{bucket.copy.name}.blocks"))
    with pytest.raises(DatasetError, match=rf"{absent}: checksum differs from the manifest's"):
        Dataset.open(ADDRESS).stream("a").windows(ids, 16)


def test_files_that_were_not_read_for_a_while_give_way(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = bucket.local.stream("a")
    shards = ours.facts.shards
    remote = Dataset.open(ADDRESS)
    limit = (bucket.copy / "manifest.json").stat().st_size + shards[1].bytes
    limit += max(shards[0].bytes, shards[2].bytes)
    monkeypatch.setenv("TALLY_CACHE_LIMIT_GB", str(limit / 1e9))
    theirs, window = remote.stream("a"), np.array([0])
    theirs.windows(window, 16)
    remote.files.path(shards[1].path)
    assert theirs.windows(np.array([ours.num_windows(16) - 1]), 16).shape == (1, 17)
    assert bucket.held() == {"manifest.json", shards[0].path, shards[1].path}
    os.utime(bucket.copy / shards[0].path, (0, 0))
    remote.files.path(shards[2].path)  # a whole file, as an audit reads it
    assert bucket.held() == {"manifest.json", shards[1].path, shards[2].path}
    assert (theirs.windows(window, 16) == ours.windows(window, 16)).all()  # by blocks now
