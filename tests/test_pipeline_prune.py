"""Intermediate files of earlier configurations: counted, kept, and deleted only when asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.build import BuildConfig
from pipeline.build import Built, build


def config(folder: Path, vocab_size: int, **rules: Any) -> BuildConfig:
    paths = [str(folder / "text.jsonl")]
    source = {"kind": "jsonl", "licence": "CC0-1.0", "paths": paths, **rules}
    values = {"name": "x", "sources": {"s": source}, "tokenizer": {"vocab_size": vocab_size}}
    return BuildConfig.model_validate(values)


def run(folder: Path, *, vocab_size: int, prune: bool = False) -> Built:
    lines = [{"text": f"Line {i} of {i * 17} and {i * 31} more."} for i in range(50)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    built = build(config(folder, vocab_size), folder / "out", prune=prune)
    assert built is not None
    return built


def stages(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in (folder / "out.work").glob("*-*/"))


def test_stages_of_another_configuration_go_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path, vocab_size=260)
    assert capsys.readouterr().out.splitlines()[-1].endswith("B for the next build to reuse")
    once = stages(tmp_path)
    first.path.rename(tmp_path / "first")
    second = run(tmp_path, vocab_size=270)
    said = capsys.readouterr().out
    assert "reused: extract-s, filter-s" in said
    assert "B of other configurations, which --prune deletes" in said
    changed = ["encode", "encoder", "layout", "pack", "tokenizer"]
    assert stages(tmp_path) == sorted([*once, *changed])
    assert run(tmp_path, vocab_size=270, prune=True).reused
    assert "B deleted, " in capsys.readouterr().out
    assert stages(tmp_path) == once
    second.path.rename(tmp_path / "second")
    run(tmp_path, vocab_size=270)  # what was kept is what is needed
    assert "to do: pack" in capsys.readouterr().out


def test_other_rules_leave_the_extraction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, vocab_size=260).path.rename(tmp_path / "first")
    changes = {"edits": ["pii"], "min_characters": 5, "max_characters": 20, "profile": "math"}
    for rule, value in changes.items():
        capsys.readouterr()
        build(config(tmp_path, 260, **{rule: value}), tmp_path / "out", dry_run=True)
        said = capsys.readouterr().out
        assert "reused: extract-s\n" in said
        assert "to do: filter-s, " in said
