"""Downloads through huggingface_hub from a local hub with faults: a file is whole or not there."""

import gzip
import io
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest
from huggingface_hub import close_session

from configs.build import BuildConfig
from configs.text_sources import HubSource
from pipeline import hub
from pipeline.build import Built, build
from pipeline.download import fetch, part_of
from pipeline.errors import BuildError
from pipeline.hub import HubFile
from tests.hub_server import Fault, Hub, Repo, git_sha1, serve, sha256

ROOT = Path(__file__).parent.parent
A, B = "a" * 40, "b" * 40
REPO = "owner/text"
MIB = 1 << 20
BIG = bytes(range(256)) * (4 * MIB // 256)


def parquet(rows: dict[str, list[Any]]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(rows).write_parquet(out)
    return out.getvalue()


def rows(start: int) -> dict[str, list[Any]]:
    """Ten documents; every second one has a score below 3."""
    numbers = list(range(start, start + 10))
    return {
        "text": [f"Document {i} tells of {i * 7} hills and {i * 13} rivers." for i in numbers],
        "id": [f"d{i}" for i in numbers],
        "score": [2.5 + i % 2 for i in numbers],
        "unread": [b"x"] * 10,
    }


FILES = {f"sample/{i}.parquet": parquet(rows(i * 10)) for i in range(5)}
FILES |= {"README.md": b"# Text\n", "big.parquet": BIG, "notes.jsonl": b'{"text": "One line."}\n'}
FILES["lines/a.json.gz"] = gzip.compress(b'{"text": "First."}\n{"text": "Second."}\n')


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        running.repos[REPO] = Repo({A: FILES}, {"main": A})
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # Settings of huggingface_hub, which it reads from the environment when it is imported.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
        close_session()
        yield running


def big() -> HubFile:
    (file,) = hub.files(found := spec(files=["big.parquet"]), hub.pin(found))
    return file


def spec(**changes: Any) -> HubSource:
    values = {"kind": "hub", "licence": "CC0-1.0", "repo": REPO, "files": ["sample/*.parquet"]}
    return HubSource.model_validate(values | {"format": "parquet"} | changes)


def config(**changes: Any) -> BuildConfig:
    source = spec(id="id", **changes).model_dump()
    return BuildConfig.model_validate(
        {"name": "x", "sources": {"s": source}, "tokenizer": {"vocab_size": 300}}
    )


def run(tmp_path: Path, name: str = "out", workers: int = 1, **changes: Any) -> Built:
    built = build(config(**changes), tmp_path / name, workers=workers)
    assert built is not None
    return built


def left_over(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_pin_lists_files_with_sizes_and_digests(server: Hub) -> None:
    wanted = {
        "sample/0.parquet": {
            "bytes": len(FILES["sample/0.parquet"]),
            "sha256": sha256(FILES["sample/0.parquet"]),
        },
        "README.md": {"bytes": 7, "git_sha1": git_sha1(b"# Text\n")},
    }
    found = hub.pin(spec(files=["sample/0.*", "README*"]))
    assert found == {"repo": REPO, "commit": A, "files": wanted}
    assert list(found["files"]) == ["sample/0.parquet", "README.md"]
    assert len(hub.pin(spec())["files"]) == 5  # listings come in pages of three
    assert list(hub.pin(spec(max_files=2))["files"]) == ["sample/0.parquet", "sample/1.parquet"]
    assert any("/tree/" in r.path and "/sample?" in r.path for r in server.requests)


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [None]),
        ([Fault("stall", "storage")], [None, None]),
        ([Fault("reset", "storage")], [None, f"bytes={2 * MIB}-"]),
        ([Fault("truncate", "storage")] * 2, [None, f"bytes={2 * MIB}-", f"bytes={3 * MIB}-"]),
        ([Fault("short", "storage")], [None, f"bytes={2 * MIB}-"]),
        ([Fault("status", "storage", 500), Fault("status", "storage", 503)], [None] * 3),
        ([Fault("status", "storage", 429)], [None] * 2),
        ([Fault("status", "storage", 429, retry_after=1)], [None] * 2),
        ([Fault("wrong", "storage")], [None] * 2),
    ],
    ids=lambda value: value[0].kind + str(value[0].status) if value and value[0] else "",
)
def test_transfers_survive_faults_and_ask_only_for_what_is_missing(
    server: Hub, faults: list[Fault], ranges: list[str | None]
) -> None:
    file, server.faults = big(), list(faults)
    fetch(file)
    assert file.local.read_bytes() == BIG
    assert left_over(file.local.parent) == ["big.parquet"]
    assert server.bytes_asked("storage") == ranges
    assert not server.faults
    fetch(file)  # what is there is verified, not fetched
    assert server.bytes_asked("storage") == ranges


def test_listings_are_retried(server: Hub) -> None:
    server.faults = [Fault("status", "/revision/", 503), Fault("stall", "/revision/")]
    server.faults += [Fault("status", "/tree/", 500), Fault("status", "/tree/", 429, 0)]
    assert hub.pin(spec())["commit"] == A
    assert not server.faults


def test_a_hub_that_cannot_be_reached_is_said_soon(
    server: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"cannot be reached .*HF_ENDPOINT .*HF_HUB_OFFLINE=1"):
        hub.pin(spec())
    assert 3 < time.monotonic() - start < 16
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("owner/text at main: ConnectError: ")
    assert first.endswith("try 2 in 0.5 s")
    assert second.endswith("try 3 in 1 s")
    monkeypatch.setenv("TALLY_HUB_PATIENCE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://no.such.host.invalid")
    with pytest.raises(BuildError, match=r"no.such.host.invalid cannot be reached \(.*known"):
        hub.pin(spec())


def test_a_hub_that_does_not_take_connections_is_said(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_HUB_PATIENCE", "2")
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # and nobody accepts: the third connection waits
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(BuildError, match=r"cannot be reached \(timed out\)"):
            hub.pin(spec())


def test_a_transfer_outlives_an_outage_and_says_so(
    server: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    file, server.faults = big(), [Fault("reset", "storage"), Fault("status", "storage", 503)]
    fetch(file)
    reset, status = capsys.readouterr().out.splitlines()
    assert reset.startswith("big.parquet: ")
    assert status == "big.parquet: status 503; try 3 in 1 s"


def test_patience_ends_without_progress(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_HUB_PATIENCE", "1")
    file, server.faults = big(), [Fault("status", "storage", 503)] * 9
    with pytest.raises(BuildError, match=r"did not deliver \(status 503\).*run again to go on"):
        fetch(file)
    server.faults = [Fault("status", "storage", 429, retry_after=5000)] * 9
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(BuildError, match=r"did not deliver \(status 429\)"):
        fetch(file)
    assert left_over(file.local.parent) == [".big.parquet.part"]


def test_parts_of_any_kind_become_the_right_file(server: Hub) -> None:
    file = big()
    file.local.parent.mkdir(parents=True)
    parts = [b"", BIG[:1000], BIG, b"wrong" * 100, BIG + b"too long"]
    for part in parts:
        part_of(file.local).write_bytes(part)
        fetch(file)
        assert file.local.read_bytes() == BIG
        file.local.unlink()
    asked = server.bytes_asked("storage")
    assert asked == [None, "bytes=1000-", "bytes=500-", None, None]


def test_a_damaged_file_in_the_cache_is_fetched_anew(server: Hub) -> None:
    big().local.parent.mkdir(parents=True)
    big().local.write_bytes(bytes(len(BIG)))
    fetch(big())
    assert big().local.read_bytes() == BIG


def test_wrong_bytes_twice_leave_nothing(server: Hub) -> None:
    server.faults = [Fault("wrong", "storage")] * 2
    with pytest.raises(BuildError, match=r"big.parquet: what arrives, twice now, is not what the"):
        fetch(big())
    assert left_over(big().local.parent) == []


def test_a_file_that_git_holds_is_verified_too(server: Hub) -> None:
    (file,) = hub.files(found := spec(files=["notes.jsonl"]), hub.pin(found))
    assert file.digest == ("git_sha1", git_sha1(FILES["notes.jsonl"]))
    server.faults = [Fault("wrong", "notes.jsonl")]
    fetch(file)
    assert file.local.read_bytes() == FILES["notes.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repo": "owner/none"}, "owner/none: there is no such repository, or it is private or"),
        ({"revision": "v9"}, "it has no revision 'v9'; set `revision` to"),
        ({"files": ["data/*.parquet"]}, "a file or folder is not there .*; check `files`"),
        ({"files": ["sample/*.zip"]}, r"no file that matches 'sample/\*.zip'; there are sample/0"),
    ],
)
def test_what_is_not_there_is_said(server: Hub, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        hub.pin(spec(**changes))


def test_a_gated_repository_says_what_to_do(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repos[REPO].gated, server.repos[REPO].token = True, "hf_secret"
    with pytest.raises(BuildError, match=r"it is gated: .* set HF_TOKEN to a token of an account"):
        hub.pin(spec())
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BuildError, match="the account of the token in HF_TOKEN has not done so"):
        hub.pin(spec())


def command(
    folder: Path, most_file_bytes: int = resource.RLIM_INFINITY, **changes: Any
) -> subprocess.Popen[str]:
    """`tally build` as a process of its own, with the token it needs.

    `most_file_bytes` is the system's limit on what it can write into a file, as a quota has it.
    """
    path = folder / "build.yaml"
    path.write_text(config(**changes).model_dump_json(), encoding="utf-8")  # JSON is YAML
    line = [sys.executable, "-m", "pipeline", "build", str(path), "-o", str(folder / "out")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))

    environment = os.environ | {"HF_TOKEN": "hf_secret", "HF_HUB_DOWNLOAD_TIMEOUT": "2"}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, preexec_fn=limit,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_the_token_opens_and_is_never_written(server: Hub, tmp_path: Path) -> None:
    server.repos[REPO].gated, server.repos[REPO].token = True, "hf_secret"
    server.faults = [Fault("wrong", "storage")] * 20
    said = command(tmp_path).communicate(timeout=60)[0]
    assert "twice now" in said
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hf_secret" in content for content in [*written, said.encode()])
    asked = [r for r in server.requests if REPO in r.path]
    assert {r.authorization for r in asked} == {"Bearer hf_secret"}


def test_a_token_without_rights_is_said(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    file = big()
    server.faults = [Fault("status", "storage", 403)] * 2
    with pytest.raises(BuildError, match="private or gated: if so, set HF_TOKEN to a token"):
        fetch(file)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BuildError, match="the token in HF_TOKEN does not open it"):
        fetch(file)


def test_kill_in_the_middle_then_the_rest_and_the_same_bytes(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = random.Random(0).choices([f"w{i}" for i in range(500)], k=600_000)
    texts = [" ".join(words[i : i + 2000]) for i in range(0, len(words), 2000)]
    out = io.BytesIO()
    ids = [f"d{i}" for i in range(len(texts))]
    pl.DataFrame({"text": texts, "id": ids}).write_parquet(out, compression="uncompressed")
    server.repos[REPO].commits[A] = {"long.parquet": out.getvalue()}
    server.stall_at = 2 * MIB  # or a loaded machine could have all of it before the kill
    process = command(tmp_path, files=["long.parquet"])
    part = part_of(tmp_path / "cache" / "hub" / REPO / A / "long.parquet")
    while process.poll() is None and not (part.exists() and part.stat().st_size >= MIB):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    reached = part.stat().st_size
    assert MIB <= reached < len(out.getvalue())
    assert not (tmp_path / "out").exists()
    server.stall_at = None
    resumed = run(tmp_path, files=["long.parquet"])
    assert server.bytes_asked("storage") == [None, f"bytes={reached}-"]
    monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "clean"))
    clean = run(tmp_path, "clean-out", files=["long.parquet"])
    assert resumed.manifest.dataset_id == clean.manifest.dataset_id
    shard = Path("s") / "train" / "00000.bin"
    assert (resumed.path / shard).read_bytes() == (clean.path / shard).read_bytes()


def test_no_disk_space_is_said_before_anything_is_fetched(server: Hub, tmp_path: Path) -> None:
    server.listed_extra_bytes = shutil.disk_usage(tmp_path).free // 4  # of each of five files
    with pytest.raises(BuildError, match=r"download-s: .*B free; make room, set TALLY_CACHE"):
        run(tmp_path)
    assert server.bytes_asked("storage") == []


def test_no_room_in_the_middle_keeps_what_arrived(server: Hub, tmp_path: Path) -> None:
    said, _ = command(tmp_path, most_file_bytes=MIB, files=["big.parquet"]).communicate(timeout=60)
    assert "error: no more can be written at" in said
    assert "set TALLY_CACHE to a larger disk, and run again: what has arrived is kept" in said
    assert part_of(big().local).read_bytes() == BIG[:MIB]
    fetch(big())
    assert big().local.read_bytes() == BIG
    assert server.bytes_asked("storage") == [None, f"bytes={MIB}-"]


def test_a_build_pins_counts_scores_and_names_files_alike_everywhere(
    server: Hub, tmp_path: Path
) -> None:
    built = run(tmp_path, min_scores={"score": 3.0}, workers=2)
    source = built.manifest.sources["s"]
    assert source.pin["commit"] == A
    assert source.pin["files"]["sample/4.parquet"]["sha256"] == sha256(FILES["sample/4.parquet"])
    read, filtered = source.funnel[:2]
    assert read.documents_in == 50
    assert {reason: d.documents for reason, d in filtered.dropped.items()} == {"low_score": 25}
    index = pl.read_parquet(tmp_path / "out" / "s" / "train" / "*.docs.parquet")
    assert set(index["origin_file"]) == {f"{REPO}/sample/{i}.parquet" for i in range(5)}


def test_a_rebuild_and_another_build_touch_no_network(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path)
    asked = len(server.requests)
    assert run(tmp_path).reused
    server.repos[REPO].names["main"] = B  # moved, but nothing has to be fetched
    (tmp_path / "out" / "manifest.json").rename(tmp_path / "manifest.json")
    for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert run(tmp_path).manifest.dataset_id == first.manifest.dataset_id
    assert len(server.requests) == asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    other = run(tmp_path, "other", min_scores={"score": 3.0})
    assert other.manifest.sources["s"].pin == first.manifest.sources["s"].pin
    assert len(server.requests) == asked
    with pytest.raises(BuildError, match="HF_HUB_OFFLINE is set, and main was never asked for"):
        run(tmp_path, "third", files=["big.parquet"])


def test_a_moved_revision_is_refused_while_files_are_missing(server: Hub, tmp_path: Path) -> None:
    server.faults = [Fault("status", "storage", 404)] * 20
    with pytest.raises(BuildError, match="the hub answered with status 404"):
        run(tmp_path)
    server.faults = []
    server.repos[REPO].commits[B] = {"sample/0.parquet": FILES["sample/4.parquet"]}
    server.repos[REPO].names["main"] = B
    with pytest.raises(BuildError, match=f"main of {REPO} has moved: .*sources.s.revision={A}"):
        run(tmp_path)
    assert run(tmp_path, "first", revision=A).manifest.sources["s"].pin["commit"] == A
    (tmp_path / "out.work" / "pins" / "s.json").unlink()
    assert run(tmp_path).manifest.sources["s"].pin["commit"] == B


def test_a_cache_that_was_deleted_is_filled_again(server: Hub, tmp_path: Path) -> None:
    server.faults = [Fault("status", "storage", 404)]  # the first file fails
    with pytest.raises(BuildError):
        run(tmp_path, workers=2)
    for path in (tmp_path / "cache").rglob("*.parquet"):
        path.unlink()
    assert run(tmp_path).manifest.sources["s"].funnel[0].documents_in == 50


def test_a_missing_column_is_said_when_a_file_arrives(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"sample/\d.parquet: no column 'body'; there are "):
        run(tmp_path, text="body")


def test_json_lines_in_gzip(server: Hub, tmp_path: Path) -> None:
    values = spec(files=["lines/*.json.gz"], format="jsonl").model_dump()
    settings = BuildConfig.model_validate(
        {"name": "x", "sources": {"s": values}, "tokenizer": {"vocab_size": 300}}
    )
    built = build(settings, tmp_path / "out")
    assert built is not None
    index = pl.read_parquet(tmp_path / "out" / "s" / "train" / "*.docs.parquet")
    assert index["doc_id"].to_list() == [f"{REPO}/lines/a.json.gz#{i}" for i in range(2)]


def test_the_pin_is_written_where_a_person_finds_it(server: Hub, tmp_path: Path) -> None:
    run(tmp_path)
    saved = json.loads((tmp_path / "out.work" / "pins" / "s.json").read_text())
    assert saved["request"] == {
        "repo": REPO, "revision": "main", "files": ["sample/*.parquet"], "max_files": None,
    }  # fmt: skip
    assert saved["pin"]["commit"] == A
    assert httpx2.get(f"{server.endpoint}/nothing").status_code == 404
