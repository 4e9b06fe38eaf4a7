"""Deduplication against datasets that are there already: what they hold is not repeated."""

import json
from pathlib import Path

import polars as pl
import pytest

from configs.build import BuildConfig
from configs.cleaning import DedupConfig
from configs.loading import load
from pipeline.build import Built, build
from pipeline.dedup import DUPLICATES
from pipeline.errors import BuildError
from tests.helpers import make_dataset
from tests.helpers_dedup import run_dedup
from tests.test_pipeline_dedup import text_of, write_files


def decided(folder: Path, sources: dict[str, dict[str, str]], *against: Path) -> pl.DataFrame:
    """The dropped documents, by id."""
    config = DedupConfig(against=tuple(map(str, against)))
    out = run_dedup(folder / "work", write_files(folder, sources), config)
    return pl.read_parquet(out / DUPLICATES).sort("doc_id")


def test_equal_and_similar_documents_of_a_held_dataset_go(tmp_path: Path) -> None:
    texts = {"web": [text_of(0, 100), text_of(200, 200)], "math": [text_of(1000, 50)]}
    held = make_dataset(tmp_path / "held", texts, val={"web": [text_of(3000, 80)]})
    id_ = held.manifest.dataset_id
    own = {
        "a_exact": text_of(0, 100),
        "b_near": text_of(200, 200, changed={100}),
        "c_longer": text_of(1000, 50) + " tail",  # though longer, the held one stays
        "d_val": text_of(3000, 80),
        "e_new": text_of(2000, 100),
        "f_copy": text_of(0, 100),
        "g_new_copy": text_of(2000, 100) + ".",
    }
    found = decided(tmp_path, {"a": own}, held.path)
    assert found.select("doc_id", "keeper", "keeper_source", "kind", "jaccard").rows() == [
        ("a_exact", "web-train-0", f"{id_[:12]}/web", "held_exact", 1.0),
        ("b_near", "web-train-1", f"{id_[:12]}/web", "held_near", 191 / 201),
        ("c_longer", "math-train-0", f"{id_[:12]}/math", "held_near", 46 / 47),
        ("d_val", "web-val-0", f"{id_[:12]}/web", "held_exact", 1.0),
        ("e_new", "g_new_copy", "a", "near", 1.0),
        ("f_copy", "web-train-0", f"{id_[:12]}/web", "held_exact", 1.0),
    ]
    facts = json.loads((tmp_path / "work/dedup/facts.json").read_text())
    assert facts["against"] == [
        {"dataset_id": id_, "name": "held", "documents": 4, "decoded_differently": 0}
    ]
    assert facts["documents_in"] == 7
    assert facts["overlap"]["a"][f"{id_[:12]}/web"]["documents"] == 4
    assert (facts["dropped_held_exact"], facts["dropped_held_near"]) == (3, 2)


def test_held_documents_may_repeat_each_other_and_share_ids(tmp_path: Path) -> None:
    text = text_of(0, 100)
    first = make_dataset(tmp_path / "x", {"web": [text, text + " more"]})
    second = make_dataset(tmp_path / "y", {"web": [text]})
    found = decided(tmp_path, {"a": {"web-train-0": text, "new": text_of(500, 50)}}, first.path)
    assert found["doc_id"].to_list() == ["web-train-0"]
    (tmp_path / "two").mkdir()
    found = decided(tmp_path / "two", {"a": {"b": text}}, first.path, second.path)
    assert found["kind"].to_list() == ["held_exact"]


def config_of(folder: Path, against: Path) -> BuildConfig:
    rows = [{"id": f"n{i}", "text": text_of(40 * i, 100)} for i in range(20)]
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"kind": "jsonl", "licence": "CC0", "paths": [f"{folder}/in.jsonl"], "id": "id"}
    values = {
        "name": "new", "sources": {"web": source}, "dedup": {"against": [str(against)]},
        "split": {"val_fraction": 0}, "tokenizer": {"vocab_size": 300},
    }  # fmt: skip
    (folder / "build.yaml").write_text(json.dumps(values))
    return load(folder / "build.yaml", BuildConfig, [])


def test_a_build_does_not_repeat_a_dataset(tmp_path: Path) -> None:
    held = make_dataset(tmp_path / "held", {"web": [text_of(0, 100), text_of(40, 100)]})
    config = config_of(tmp_path, held.path)
    built = build(config, tmp_path / "out")
    assert isinstance(built, Built)
    stage = next(s for s in built.manifest.sources["web"].funnel if s.stage == "dedup")
    assert {name: gone.documents for name, gone in stage.dropped.items()} == {"held_exact": 2}
    assert built.manifest.dedup["against"][0]["dataset_id"] == held.manifest.dataset_id
    again = build(config, tmp_path / "out")
    assert again is not None
    assert again.reused
    held.path.rename(tmp_path / "before")
    make_dataset(tmp_path / "held", {"web": [text_of(0, 100)]})
    with pytest.raises(BuildError, match="built from other held datasets"):
        build(config, tmp_path / "out")


def test_held_datasets_that_cannot_be_used(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "none")
    with pytest.raises(BuildError, match=r"dedup.against: .*none"):
        build(config, tmp_path / "out")
    held = make_dataset(tmp_path / "held", {"web": [text_of(0, 100)]})
    with pytest.raises(BuildError, match="are the same dataset"):
        decided(tmp_path, {"a": {"x": "text"}}, held.path, held.path)
    shard = next(held.path.rglob("*.bin"))
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(BuildError, match="checksum differs"):
        decided(tmp_path, {"a": {"x": "text"}}, held.path)
