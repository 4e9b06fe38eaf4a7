"""What another source, or a change of one, leaves to do: nothing for the files that stay."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from configs.build import BuildConfig
from pipeline.build import Built, build
from pipeline.reuse import FileByFile
from tests.helpers import byte_tokenizer

FILES = {"a": ["one two three four five six", "seven eight nine ten"], "b": ["eleven twelve"]}


def write(folder: Path, sources: dict[str, list[str]]) -> dict[str, Any]:
    """Sources of one-line files: `a-0.jsonl`, `a-1.jsonl`, ..."""
    for name, texts in sources.items():
        for number, text in enumerate(texts):
            row = {"id": f"{name}{number}", "text": text}
            (folder / f"{name}-{number}.jsonl").write_text(json.dumps(row) + "\n")
    facts = {"kind": "jsonl", "licence": "CC0-1.0", "id": "id"}
    return {name: facts | {"paths": [f"{folder}/{name}-*.jsonl"]} for name in sources}


def made(folder: Path, output: str, sources: dict[str, Any], **changes: Any) -> Built:
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.exists():
        byte_tokenizer().save(str(tokenizer))
    values = {
        "name": "t", "sources": sources, "tokenizer": {"file": str(tokenizer)},
        "split": {"val_fraction": 0}, **changes,
    }  # fmt: skip
    shutil.rmtree(folder / output, ignore_errors=True)
    built = build(BuildConfig.model_validate(values), folder / output)
    assert built is not None
    return built


def inodes(work: Path, stage: str, pattern: str) -> set[int]:
    """Of all files of the stage, whatever its key."""
    return {path.stat().st_ino for path in work.glob(f"{stage}-*/{pattern}")}


def bytes_of(built: Built) -> dict[str, bytes]:
    files = (path for path in built.path.rglob("*") if path.is_file())
    return {path.relative_to(built.path).as_posix(): path.read_bytes() for path in files}


def numbers_of(paths: Iterable[Path]) -> list[int]:
    return sorted(path.stat().st_ino for path in paths)


def test_another_source_leaves_the_files_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = write(tmp_path, FILES)
    made(tmp_path, "out", {"a": sources["a"]})
    work, kinds = tmp_path / "out.work", {"signatures": "*.runs", "encode": "*.bin"}
    before = {stage: inodes(work, stage, kind) for stage, kind in kinds.items()}
    assert {stage: len(found) for stage, found in before.items()} == {"signatures": 2, "encode": 2}
    capsys.readouterr()
    built = made(tmp_path, "out", {"b": sources["b"], "a": sources["a"]})
    assert "to do where files changed: signatures, encode" in capsys.readouterr().out
    for stage, kind in kinds.items():  # those of a have other numbers now, and are the same files
        after = inodes(work, stage, kind)
        assert before[stage] < after
        assert len(after) == 3
    whole = made(tmp_path, "anew", {"b": sources["b"], "a": sources["a"]})
    assert bytes_of(built) == bytes_of(whole)


def test_a_file_is_encoded_again_where_a_decision_about_it_changed(tmp_path: Path) -> None:
    sources = write(tmp_path, FILES | {"c": [FILES["a"][1]]})
    made(tmp_path, "out", {"a": sources["a"]})
    before = inodes(tmp_path / "out.work", "encode", "*.bin")
    changes = {"dedup": {"priority": ["c", "a"]}}
    built = made(tmp_path, "out", {"a": sources["a"], "c": sources["c"]}, **changes)
    assert built.manifest.sources["a"].splits["train"].documents == 1
    after = inodes(tmp_path / "out.work", "encode", "*.bin")
    assert len(after) == 4  # a-0 is the same, a-1 is a duplicate now, c-0 is new
    assert before < after
    assert bytes_of(built) == bytes_of(
        made(tmp_path, "anew", {"a": sources["a"], "c": sources["c"]}, **changes)
    )


class Doubled(FileByFile):
    """Writes every text twice."""

    def __init__(self, texts: list[Path], folder: Path, mark: str = "") -> None:
        super().__init__(folder, mark)
        self.texts = texts

    def inputs(self, rank: int) -> list[Path | str]:
        return [self.texts[rank]]

    def outputs(self, rank: int) -> list[Path]:
        return [self.folder / f"{rank}.txt"]

    def make(self, rank: int) -> None:
        self.outputs(rank)[0].parent.mkdir(parents=True, exist_ok=True)
        self.outputs(rank)[0].write_text(2 * self.texts[rank].read_text())


def test_what_is_taken_over_and_what_is_not(tmp_path: Path) -> None:
    texts = [tmp_path / name for name in "xyz"]
    for path in texts:
        path.write_text(path.name)
    stages = [tmp_path / f"s-{'0' * 15}{number}" for number in range(5)]

    def out(stage: int, rank: int = 0) -> Path:
        return stages[stage] / f"{rank}.txt"

    list(Doubled(texts, stages[0]).run(rank=1))
    list(Doubled(texts[1:], stages[1]).run(rank=0))
    assert out(1).read_text() == "yy"
    assert out(1).samefile(out(0, 1))
    list(Doubled(texts[1:], stages[1]).run(rank=0))  # once more, as after a kill
    assert numbers_of(stages[1].glob("*.txt")) == [out(0, 1).stat().st_ino]
    list(Doubled(texts[1:], stages[2], mark="other settings").run(rank=0))
    assert not out(2).samefile(out(0, 1))
    out(0, 1).write_text("yyy")  # damaged; and with it the other name of the file
    list(Doubled(texts[1:], stages[3]).run(rank=0))
    assert out(3).read_text() == "yy"
    os.truncate(texts[1], 0)
    list(Doubled(texts[1:], stages[4]).run(rank=0))
    assert out(4).read_text() == ""
