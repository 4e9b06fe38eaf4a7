"""A tokenizer from the hub: pinned to a commit, fetched once, the same after the branch moved."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from configs.build import BuildConfig
from pipeline.bpe import train
from pipeline.build import Built, build
from pipeline.errors import BuildError
from tests.hub_server import Fault, Hub, Repo, serve

A, B = "a" * 40, "b" * 40
REPO = "owner/model"


def tokenizer_of(text: str) -> bytes:
    config = BuildConfig.model_validate(values()).tokenizer
    return train(iter([[text] * 9]), config).to_str().encode("utf-8")


def values(**tokenizer: Any) -> dict[str, Any]:
    source = {"kind": "jsonl", "licence": "CC0-1.0", "paths": ["text.jsonl"]}
    settings = {"vocab_size": 300, **tokenizer}
    return {"name": "t", "sources": {"text": source}, "tokenizer": settings}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        files = {"README.md": b"# A model\n", "tokenizer.json": tokenizer_of("Rivers and hills")}
        running.repos[REPO] = Repo({A: files, B: {"README.md": b"moved"}}, {"main": A})
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.chdir(tmp_path)
        rows = ({"text": f"Of {i} hills and {i * 7} rivers it tells."} for i in range(20))
        Path("text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        close_session()
        yield running


def made(**tokenizer: Any) -> Built:
    built = build(BuildConfig.model_validate(values(repo=REPO, **tokenizer)), Path("out"))
    assert built is not None
    return built


def test_a_build_stays_with_the_commit_it_began_with(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.append(Fault("reset", "tokenizer.json"))
    first = made()
    facts = first.manifest.tokenizer
    assert facts.pin is not None
    assert (facts.pin["repo"], facts.pin["commit"]) == (REPO, A)
    assert list(facts.pin["files"]) == ["tokenizer.json"]
    assert facts.trained_on is None
    wanted = server.repos[REPO].commits[A]["tokenizer.json"]
    assert (first.path / "tokenizer.json").read_bytes() == wanted

    server.repos[REPO].names["main"] = B  # which has no tokenizer.json
    assert made().reused
    for directory in ("out", "out.work"):
        shutil.rmtree(directory)
    with pytest.raises(BuildError, match=r"owner/model at main has no tokenizer\.json"):
        made()
    assert made(revision=A).manifest.tokenizer.blake3 == facts.blake3

    shutil.rmtree("out")
    shutil.rmtree("out.work")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert made(revision=A).manifest.tokenizer.pin == facts.pin


def test_what_is_not_there_is_said(server: Hub) -> None:
    with pytest.raises(BuildError, match="model repository owner/model: it has no revision 'v9'"):
        made(revision="v9")
    server.repos.clear()
    with pytest.raises(BuildError, match="model repository owner/model: there is no such"):
        made()


def test_a_file_and_a_repository_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="'file' and 'repo' both name a tokenizer"):
        BuildConfig.model_validate(values(repo=REPO, file="tokenizer.json"))


def test_a_file_that_is_no_tokenizer_is_refused_before_any_work(server: Hub) -> None:
    Path("half.json").write_text('{"vocab"')
    config = BuildConfig.model_validate(values(file="half.json"))
    with pytest.raises(BuildError, match=r"half\.json: not a tokenizer\.json .*; give one that"):
        build(config, Path("out"))
    assert {path.name for path in Path("out.work").iterdir()} == set()


def test_another_tokenizer_in_the_same_file_is_noticed(server: Hub) -> None:
    file = Path("tokenizer.json")
    file.write_bytes(tokenizer_of("Rivers and hills"))
    config = BuildConfig.model_validate(values(file=str(file)))
    assert build(config, Path("out")) is not None
    file.write_bytes(tokenizer_of("Something else"))
    with pytest.raises(BuildError, match="built from other tokenizer; delete it"):
        build(config, Path("out"))
