"""Input on S3-compatible storage: a local server, read through fsspec as a real one is."""

import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from configs.build import BuildConfig
from configs.text_sources import ParquetSource
from pipeline.build import Built, build, report
from pipeline.errors import BuildError
from pipeline.sources import resolve
from pipeline.streams import InputFile
from pipeline.tables import ReadParquet
from pipeline.upload import dataset_at, upload
from tests.helpers import make_dataset


@pytest.fixture
def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system on the server; its bucket `box` has two kinds of files."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    files = fsspec.filesystem("s3")
    files.makedirs("box", exist_ok=True)
    for i in range(3):
        files.pipe(f"box/in/{i}.parquet", parquet(i))
    lines = b"".join(json.dumps({"text": f"Line {i} of many."}).encode() + b"\n" for i in range(4))
    files.pipe("box/lines.jsonl.gz", gzip.compress(lines))
    return files


def parquet(i: int) -> bytes:
    out = io.BytesIO()
    texts = [f"Document {i}.{k} speaks of {i * 5 + k} bridges." for k in range(5)]
    pl.DataFrame({"text": texts}).write_parquet(out)
    return out.getvalue()


def config(**sources: dict[str, Any]) -> BuildConfig:
    named = {name: {"licence": "CC0-1.0"} | values for name, values in sources.items()}
    return BuildConfig.model_validate(
        {"name": "x", "sources": named, "tokenizer": {"vocab_size": 300}}
    )


def test_parquet_and_json_lines_are_read_from_a_bucket(storage: Any, tmp_path: Path) -> None:
    settings = config(
        p={"kind": "parquet", "paths": ["s3://box/in/*.parquet"]},
        j={"kind": "jsonl", "paths": ["s3://box/lines.jsonl.gz"]},
    )
    built: Built | None = build(settings, tmp_path / "out")
    assert built is not None
    sources = built.manifest.sources
    assert [sources[name].funnel[0].documents_in for name in ("p", "j")] == [15, 4]
    assert list(sources["p"].pin["files"]) == [f"s3://box/in/{i}.parquet" for i in range(3)]
    assert sources["j"].pin["files"]["s3://box/lines.jsonl.gz"]["etag"]
    again = build(settings, tmp_path / "out")
    assert again is not None
    assert again.reused


def test_a_replaced_file_is_seen(storage: Any, tmp_path: Path) -> None:
    spec = ParquetSource(kind="parquet", licence="x", paths=("s3://box/in/1.parquet",))
    before = resolve("s", spec)
    etag = before.pin["files"]["s3://box/in/1.parquet"]["etag"]
    storage.pipe("box/in/1.parquet", parquet(7))
    assert resolve("s", spec).pin != before.pin
    file = InputFile("s3://box/in/1.parquet", "s3://box/in/1.parquet", etag)
    with pytest.raises(BuildError, match=r"s3://box/in/1.parquet was replaced while the build ran"):
        list(ReadParquet([file], spec)(rank=0))


def test_what_is_not_there_is_said(storage: Any) -> None:
    spec = ParquetSource(kind="parquet", licence="x", paths=("s3://box/none/*.parquet",))
    with pytest.raises(BuildError, match=r"source 's': no file matches 's3://box/none/\*.parquet'"):
        resolve("s", spec)
    other = spec.model_copy(update={"paths": ("none://b/x.parquet",)})
    with pytest.raises(BuildError, match=r"none://b/x.parquet: the storage cannot be used"):
        resolve("s", other)
    columns = spec.model_copy(update={"paths": ("s3://box/in/0.parquet",), "text": "body"})
    with pytest.raises(BuildError, match=r"in/0.parquet: no column 'body'; there are 'text'"):
        resolve("s", columns)


def test_a_dataset_is_copied_and_completed_but_never_mixed(storage: Any, tmp_path: Path) -> None:
    local = make_dataset(tmp_path / "data", {"a": ["one text", "another"], "b": ["third"]})
    upload(local.path, "s3://box/out/data")
    storage.invalidate_cache()
    copied = sorted(name.removeprefix("box/out/data/") for name in storage.find("box/out/data"))
    assert copied == sorted(local.manifest.files())
    for name in copied:
        assert storage.cat_file(f"box/out/data/{name}") == (local.path / name).read_bytes()
    storage.rm_file("box/out/data/manifest.json")  # as after an interruption
    storage.rm_file("box/out/data/a/train/00000.bin")
    under_way = json.dumps({"dataset_id": local.manifest.dataset_id})
    storage.pipe("box/out/data/uploading.json", under_way.encode())
    upload(local.path, "s3://box/out/data")
    upload(local.path, "s3://box/out/data")
    storage.invalidate_cache()
    assert sorted(n.removeprefix("box/out/data/") for n in storage.find("box/out/data")) == copied
    other = make_dataset(tmp_path / "other", {"a": ["something else"]})
    with pytest.raises(BuildError, match=f"holds {local.manifest.dataset_id}; choose another"):
        upload(other.path, "s3://box/out/data")
    with pytest.raises(BuildError, match="s3://box/in holds files that are no dataset"):
        upload(other.path, "s3://box/in")


def build_there(tmp_path: Path, address: str, **changes: Any) -> Built:
    settings = config(j={"kind": "jsonl", "paths": ["s3://box/lines.jsonl.gz"]})
    built = build(settings.model_copy(update=changes), tmp_path / "x", address=address)
    assert built is not None
    return built


def test_a_build_writes_to_a_bucket_and_knows_what_is_there(
    storage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "s3://box/built/x"
    first = build_there(tmp_path, address)
    storage.invalidate_cache()
    for name in first.manifest.files():
        assert storage.cat_file(f"box/built/x/{name}") == (first.path / name).read_bytes()
    assert not storage.exists("box/built/x/uploading.json")
    report(first)
    assert capsys.readouterr().out.splitlines()[-1] == address
    shutil.rmtree(first.path)  # what is there is asked first: nothing is built again
    again = build_there(tmp_path, address)
    assert again.reused
    assert again.manifest == first.manifest
    assert not first.path.exists()
    with pytest.raises(BuildError, match=f"{address} holds dataset .* from other configuration"):
        build_there(tmp_path, address, name="y")
    with pytest.raises(BuildError, match="s3://box/in holds files that are no dataset"):
        build_there(tmp_path, "s3://box/in")


def test_a_copy_that_was_cut_short_is_completed_and_damage_is_found(
    storage: Any, tmp_path: Path
) -> None:
    local = make_dataset(tmp_path / "data", {"a": ["one text", "another"]})
    shard = "box/cut/a/train/00000.bin"
    under_way = json.dumps({"dataset_id": local.manifest.dataset_id})
    storage.pipe("box/cut/uploading.json", under_way.encode())
    storage.pipe(shard, bytes(len((local.path / "a/train/00000.bin").read_bytes())))
    with pytest.raises(BuildError, match=f"{shard} is not what was sent; it was deleted: run aga"):
        upload(local.path, "s3://box/cut")
    assert dataset_at("s3://box/cut") is None
    upload(local.path, "s3://box/cut")
    assert dataset_at("s3://box/cut") == local.manifest
    assert storage.cat_file(shard) == (local.path / "a/train/00000.bin").read_bytes()
