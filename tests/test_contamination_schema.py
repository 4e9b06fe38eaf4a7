"""audit.json follows the shipped JSON Schema; what it says of exposure and of its own limits."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import polars as pl
import pytest

from configs.audit import SENSITIVITIES
from contamination.audit import run_audit
from contamination.corpus import open_corpus
from contamination.exposure import RunHistory
from contamination.items import Benchmark, Item
from contamination.samples import load_samples
from contamination.schema import SCHEMA_FILE, json_schema
from contamination.write import write_reports
from shards.reader import Dataset
from tests.helpers import make_dataset
from tests.test_contamination_dataset import FILLER, QUESTION, make_run

OTHER = "Which river of northern Scotland carried the felled timber to the shipyards of Speymouth?"
BENCHMARK = Benchmark(
    "made",
    "test",
    "by a test",
    (
        Item("leaf", QUESTION, "chlorophyll"),
        Item("river", OTHER, "the Spey"),
        Item("tiny", "Who?", "Bob"),
        Item("absent", "Which queen ordered the marble quarry of Iona to be flooded?", "none"),
    ),
)
TEXTS = {
    "web": [FILLER * 3, f"{FILLER}\n{QUESTION}\nChlorophyll.\n{FILLER}", FILLER, FILLER * 2],
    "docs": [f"{FILLER} {OTHER} The Spey."],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schema")


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    dataset: Dataset = make_dataset(folder / "data", TEXTS)
    make_run(folder / "run", dataset, steps=30)  # reads `web` alone
    history = RunHistory(folder / "run", None, dataset.manifest.dataset_id)
    rules, corpus = SENSITIVITIES["default"], open_corpus(dataset.path)
    result = run_audit(corpus, [BENCHMARK], rules, folder / "w", folder / "c", 1, history)
    docs = [{"question": item.question} for item in reversed(BENCHMARK.items)]
    lines = [
        json.dumps({"doc": doc, "metrics": ["acc"], "acc": k % 2}) for k, doc in enumerate(docs)
    ]
    (folder / "made.samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    samples = load_samples([folder / "made.samples.jsonl"], [BENCHMARK])
    write_reports(result, folder / "out", "data", 1.0, samples)
    loaded: dict[str, Any] = json.loads((folder / "out" / "audit.json").read_text())
    return loaded


def test_the_shipped_schema_is_that_of_the_code() -> None:
    shipped = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert shipped == json_schema(), "run `python -m contamination.schema`"
    jsonschema.Draft202012Validator.check_schema(shipped)


def test_a_report_follows_the_schema(facts: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.validate(facts, schema)
    for key in list(facts):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in facts.items() if k != key}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(facts | {"surprise": 1}, schema)


def test_exposure_by_item_and_by_benchmark(facts: dict[str, Any], folder: Path) -> None:
    items = {row["id"]: row for row in facts["items"]}
    assert list(items) == ["leaf", "river"]
    leaf, river = items["leaf"]["exposure"], items["river"]["exposure"]
    assert river == {"times": 0, "partial_times": 0, "first_step": None, "last_step": None}
    rows = pl.read_parquet(folder / "out" / "matches.parquet").filter(pl.col("item_id") == "leaf")
    assert leaf["times"] + leaf["partial_times"] > 0
    assert leaf["times"] == rows["exposures"].sum()
    assert leaf["first_step"] == rows["first_step"].min()
    (made,) = facts["benchmarks"]
    for totals in (made, facts["totals"]):
        assert totals["dirty_items_trained_on"] == 1
        assert totals["dirty_items_never_trained_on"] == 1
        assert (totals["first_step"], totals["last_step"]) == (
            leaf["first_step"],
            leaf["last_step"],
        )
        size = int((rows["token_end"] - rows["token_start"]).sum())
        assert totals["tokens_trained_on"] == size * leaf["times"]
        assert totals["share_of_tokens"] == pytest.approx(size * leaf["times"] / (30 * 2 * 64))
    assert facts["run"]["tokens"] == 30 * 2 * 64


def test_scores_are_split(facts: dict[str, Any], folder: Path) -> None:
    (row,) = facts["scores"]
    sides = {name: row[name]["n"] for name in ("all", "clean", "dirty", "not_audited")}
    assert sides == {"all": 4, "clean": 1, "dirty": 2, "not_audited": 1}
    assert row["difference"] is None
    for name in ("audit.md", "audit.html"):
        assert "not enough items" in (folder / "out" / name).read_text(encoding="utf-8")


def test_what_cannot_be_audited_is_listed(facts: dict[str, Any], folder: Path) -> None:
    assert facts["unauditable"] == {"made": ["tiny"]}
    page = (folder / "out" / "audit.html").read_text(encoding="utf-8")
    assert "1 items too short to audit, by id" in page
    assert "<dd>tiny</dd>" in page
    assert "Paraphrases are not covered" in page
    assert "Paraphrases are not covered" in (folder / "out" / "audit.md").read_text()
