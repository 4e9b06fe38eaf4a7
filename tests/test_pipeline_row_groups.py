"""How many rows are looked at together changes memory, and no byte of the dataset."""

import json
from pathlib import Path

import pytest

from configs.build import BuildConfig
from pipeline import documents, funnel_sums, row_file
from pipeline.build import Built, build
from tests.helpers import byte_tokenizer


def text(name: str, i: int) -> str:
    words = " ".join(f"{name}{i * 7 % 83}x{k}" for k in range(60))
    return f"{words}\nWrite to someone{i}@example.org.\n{words[::-1]}"


def config(folder: Path) -> BuildConfig:
    byte_tokenizer().save(str(folder / "bytes.json"))
    for name in "ab":
        rows = [{"text": text(name, i) if i % 9 else "", "id": f"{name}{i}"} for i in range(150)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"kind": "jsonl", "licence": "CC0", "id": "id", "edits": ["pii"]}
    sources = {name: source | {"paths": [f"{folder}/{name}.jsonl"]} for name in "ab"}
    values = {
        "name": "groups",
        "sources": sources,
        "split": {"val_fraction": 0.2},
        "tokenizer": {"file": str(folder / "bytes.json")},
        "shards": {"shard_tokens": 10_000, "shuffle_seeds": {"b": 3}, "max_tokens": {"a": 40_000}},
    }
    return BuildConfig.model_validate(values)


def built(config: BuildConfig, output: Path) -> Built:
    found = build(config, output)
    assert found is not None
    return found


def test_small_row_groups_give_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(tmp_path)
    one = built(made, tmp_path / "one")
    monkeypatch.setattr(documents, "_BATCH_ROWS", 11)
    monkeypatch.setattr(row_file, "GROUP_ROWS", 7)
    monkeypatch.setattr(funnel_sums, "_PART_ROWS", 13)
    many = built(made, tmp_path / "many")
    stages = {stage.stage: stage for stage in one.manifest.sources["b"].funnel}
    assert stages["read"].dropped["empty"].documents == 17
    assert stages["filter"].edited["pii"].characters_removed > 0
    assert stages["dedup"].documents_out < stages["dedup"].documents_in
    assert many.manifest == one.manifest
