"""The main job, whole, through the command a user types; then once more, with nothing to do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shards.accounts import read_accounts, verify_run
from shards.verify import verify_dataset

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(1500)


def run_demo(out: Path) -> str:
    command = [sys.executable, "-m", "tally", "demo", "-o", str(out)]
    user = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    result = subprocess.run(
        command, cwd=ROOT, env=user, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-6000:]
    return result.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo."""
    out = tmp_path_factory.mktemp("demo")
    run_demo(out)
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_dataset_is_sound_and_its_funnel_balances(demo: Path) -> None:
    assert verify_dataset(demo / "dataset").problems == []
    manifest = read(demo / "dataset" / "manifest.json")
    assert set(manifest["sources"]) == {"web", "docs", "math"}
    for facts in manifest["sources"].values():
        for stage in facts["funnel"]:
            for unit in ("documents", "characters", "tokens"):
                dropped = sum(reason[unit] for reason in stage["dropped"].values())
                edits = stage["edited"].values() if unit != "documents" else ()
                less = sum(edit[f"{unit}_removed"] - edit[f"{unit}_added"] for edit in edits)
                assert stage[f"{unit}_in"] == stage[f"{unit}_out"] + dropped + less
        held = facts["funnel"][-1]["tokens_out"]
        assert sum(split["tokens"] for split in facts["splits"].values()) == held


def test_the_audit_finds_what_was_planted(demo: Path) -> None:
    planted = read(demo / "planted" / "planted.json")
    matches = pl.read_parquet(demo / "audit_planted" / "matches.parquet")
    found = matches.filter(pl.col("item_id") == planted["item"], pl.col("class") == "qa")
    assert found["doc_id"].to_list() == [planted["doc_id"]]
    clean = pl.read_parquet(demo / "audit" / "matches.parquet")
    assert planted["item"] not in clean["item_id"].to_list()


def test_the_ledger_is_proved_over_stop_and_resume(demo: Path) -> None:
    books = read_accounts(demo / "run", None)
    assert books.steps == books.plan.num_steps >= 300
    assert list(verify_run(books, tokens=True)) == []
    (restart,) = (demo / "run" / "restarts.jsonl").read_text().splitlines()
    assert json.loads(restart)["resumed_at"] == 150
    assert json.loads(restart)["discarded_steps"] == 0


def test_the_model_learned_and_leaves_as_it_is(demo: Path) -> None:
    heldout = read(demo / "run" / "eval" / "heldout.json")["all"]
    assert heldout["loss"] < heldout["unigram_entropy"] - 1
    export = read(demo / "run" / "export" / "export.json")
    assert export["max_logit_difference"] <= export["tolerance"]
    for task in ("arc_easy", "piqa", "sciq"):
        assert read(demo / "run" / "eval" / f"{task}.json")["items"]["scored"] == 100
    assert (demo / "run" / "card" / "card.html").stat().st_size > 10_000


def test_a_second_run_does_nothing_twice(demo: Path) -> None:
    made_once = ["dataset/**/*", "run/checkpoints/**/*", "run/ledger.jsonl", "run/eval/*"]
    kept = [path for pattern in made_once for path in demo.glob(pattern) if path.is_file()]
    kept.remove(demo / "run" / "eval" / "generations.json")  # a look at the model, never stored
    before = {path: path.stat().st_mtime_ns for path in kept}
    output = run_demo(demo)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "up to date: nothing to do" in output
    assert output.count("320 of 320 steps are done already") == 2
