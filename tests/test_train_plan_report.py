"""The plan report: GPUs and prices, audits, schedules, and the accounting failures it must show."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from configs.train import TrainConfig
from tests.helpers import make_dataset
from train.cli import app
from train.errors import TrainError
from train.hardware import PUBLISHED, parse_prices, published_share
from train.planreport import Assumptions, PlanReport, report
from train.run_dir import plan_run

BILLION = 10**9


def settings(sources: dict[str, Any], phases: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    """A 135M model over these sources."""
    return {
        "name": "t",
        "data": {"seq_len": 2048, "sources": sources, "phases": phases} | data,
        "model": {
            "vocab_size": 49152,
            "num_layers": 30,
            "d_model": 576,
            "num_heads": 9,
            "num_kv_heads": 3,
            "head_dim": 64,
            "ffn_dim": 1536,
            "max_seq_len": 8192,
        },
        "optimizer": {"lr": 1e-3},
        "schedule": {"shape": "cosine", "warmup_steps": 100},
        "micro_batch": 4,
        "engine": {"precision": "bf16_autocast"},
        "checkpoint": {"every_steps": 1000},
    }


def declared(tokens: int) -> dict[str, Any]:
    return {"dataset": "not-built", "declared_tokens": tokens}


def report_of(values: dict[str, Any], **known: Any) -> PlanReport:
    config = TrainConfig.model_validate(values)
    return report(config, plan_run(config, may_be_declared=True), Assumptions(**known))


def test_one_billion_read_21_times_against_eight_read_three_times() -> None:
    """The same 24B or so of compute; the report tells them apart before it is spent."""
    little, much = (
        report_of(
            settings(
                {"web": declared(size)},
                [{"global_batch_tokens": 1 << 19, "read": {"web": f"{epochs} epochs"}}],
            )
        )
        for size, epochs in ((BILLION + 1, 21), (8 * BILLION + 1, 3))
    )
    assert little.tokens / BILLION == pytest.approx(21, abs=0.01)
    assert much.tokens / BILLION == pytest.approx(24, abs=0.01)
    assert (little.unique_tokens // 10**7, much.unique_tokens // 10**7) == (99, 800)
    assert little.effective_tokens / BILLION == pytest.approx(12.2, abs=0.1)
    assert much.effective_tokens / BILLION == pytest.approx(23.0, abs=0.1)
    assert little.unique_tokens_per_parameter == pytest.approx(7.4, abs=0.1)
    assert any("read 21.0 times" in line and "(58%)" in line for line in little.warnings)
    assert not any("read 3" in line for line in much.warnings)


def test_a_10b_run_that_held_4_28b_unique_tokens() -> None:
    """It kept no place in its data: at step 8,000 of 18,928 it began from the beginning again."""
    batch = {"global_batch_tokens": 258 * 2047, "weights": {"edu": 1}}
    phases = [
        {"name": "first", "length": "8000 steps"} | batch,
        {"name": "resumed", "length": "10928 steps", "restart": True} | batch,
    ]
    result = report_of(
        settings({"edu": declared(8105 * 258 * 2048)}, phases, seq_len=2047, order="rows")
    )
    assert result.steps == 18_928
    assert result.tokens == 9_996_368_928
    assert round(result.unique_tokens / BILLION, 2) == 4.28
    assert round(result.sources[0].epochs_read, 2) == 2.34
    assert round(result.unique_tokens_per_parameter, 1) == 31.8
    assert [phase.restart for phase in result.phases] == [False, True]


def test_phases_of_other_lengths_cost_what_their_windows_cost() -> None:
    one = {"global_batch_tokens": 1 << 16, "length": "100 steps", "weights": {"web": 1}}
    short, long, both = (
        report_of(settings({"web": declared(BILLION)}, phases))
        for phases in ([one], [one | {"seq_len": 8192}], [one, one | {"seq_len": 8192}])
    )
    assert both.flops == short.flops + long.flops > 2 * short.flops
    assert both.flops_6n == 2 * short.flops_6n
    assert both.memory_gib == long.memory_gib
    assert both.tokens == 2 * 100 * (1 << 16)


def test_hours_cost_and_memory_by_hand() -> None:
    phase = {"global_batch_tokens": 1 << 19, "read": {"web": "1 epoch"}}
    values = settings({"web": declared(BILLION)}, [phase]) | {
        "launch": {"gpu_hour_price": {"H100": 2.0}}
    }
    result = report_of(values, gpus=4, mfu=0.5, prices={"A100-80": 1.0})
    rows = {row.device: row for row in result.hardware}
    hours = result.flops / (0.5 * 989e12) / 3600
    assert rows["H100"].gpu_hours_low == rows["H100"].gpu_hours_high == pytest.approx(hours)
    assert rows["H100"].hours_low == pytest.approx(hours / 4)
    assert rows["H100"].cost_low == pytest.approx(2 * hours)
    assert rows["A100-80"].cost_low == pytest.approx(hours * 989 / 312)
    assert rows["L20"].cost_low is None
    needed = sum(result.memory_gib.values())
    assert {row.device: row.fits for row in result.hardware} == {
        "A100-40": needed < 40,
        "A100-80": needed < 80,
        "L20": needed < 44.9,
        "H100": needed < 79.6,
        "H200": needed < 140.4,
    }
    measured = report_of(values, gpus=2, tokens_per_s=1e6, prices={"this": 3.0}).hardware[0]
    assert measured.device == "this machine"
    assert measured.hours_low == pytest.approx(result.tokens / 1e6 / 3600)
    assert measured.cost_low == pytest.approx(3 * 2 * result.tokens / 1e6 / 3600)


def test_published_efficiency_of_about_the_size() -> None:
    assert published_share("A100-80", 135_000_000)[:2] == (0.377, 0.634)
    assert published_share("A100-40", 1_000_000_000)[:2] == (0.516, 0.569)
    assert published_share("H100", 3_000_000_000)[:2] == (0.35, 0.40)  # the nearest there is
    assert published_share("H200", 135_000_000).basis.startswith("as H100")
    assert all(0 < row.low <= row.high < 1 and row.source for row in PUBLISHED)


@pytest.mark.parametrize("text", ["H100", "H100=", "H100=x", "H100=-1", "H900=2", "=2", "H100=nan"])
def test_prices_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(TrainError, match="CARD=PRICE"):
        parse_prices([text])


def audit(dataset: Path, digest: str, dirty: int) -> None:
    folder = dataset.with_name(dataset.name + ".audit")
    folder.mkdir(exist_ok=True)
    totals = {"dirty_items": dirty, "dirty_documents": 2 * dirty}
    corpus = {"kind": "dataset", "digest": digest}
    (folder / "audit.json").write_text(json.dumps({"corpus": corpus, "totals": totals}))


def test_audits_that_are_missing_stale_dirty_or_clean(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", {"web": ["abc " * 2000]})
    phase = {"global_batch_tokens": 8, "length": "3 steps", "weights": {"web": 1}}
    values = settings({"web": {"dataset": str(dataset.path)}}, [phase], seq_len=8)
    values["schedule"]["warmup_steps"] = 1

    def said() -> list[str]:
        return [line for line in report_of(values).warnings if "audit" in line]

    assert "no audit in" in said()[0]
    audit(dataset.path, "0" * 32, 0)
    assert "audits 00000000000000000000000000000000, not this dataset" in said()[0]
    audit(dataset.path, dataset.manifest.dataset_id, 3)
    assert "web: 3 benchmark items found in 6 of its documents" in said()[0]
    audit(dataset.path, dataset.manifest.dataset_id, 0)
    assert said() == []


def test_schedule_and_phases_that_disagree() -> None:
    one = {"global_batch_tokens": 1 << 16, "length": "50 steps", "weights": {"web": 1}}
    two = one | {"name": "anneal", "length": "200 steps"}
    values = settings({"web": declared(BILLION)}, [one, two])
    assert any("100 warm-up steps go on beyond phase" in w for w in report_of(values).warnings)
    wsd = {"shape": "wsd", "warmup_steps": 10, "decay_steps": 210}
    said = report_of(values | {"schedule": wsd}).warnings
    assert any("'anneal' has 200: it begins to fall in an earlier phase" in w for w in said)


def test_whole_steps_that_leave_much_of_an_amount_are_told() -> None:
    phase = {"global_batch_tokens": 2048 * 30, "read": {"web": "120_000 tokens"}}
    values = settings({"web": declared(BILLION)}, [phase])
    values["schedule"]["warmup_steps"] = 0
    (said,) = (line for line in report_of(values).warnings if "left over" in line)
    assert "57,344 of the targets" in said  # 58 windows were asked for, one step reads 30


def test_plan_prints_tables_and_names_copies(tmp_path: Path) -> None:
    texts = {"web": ["same text " * 5, "other text " * 5], "copy": ["same text " * 5, "own " * 20]}
    for name, documents in texts.items():
        make_dataset(tmp_path / name, {name: documents})
    sources = {name: {"dataset": str(tmp_path / name)} for name in texts}
    phase = {"global_batch_tokens": 32, "read": dict.fromkeys(texts, "1 epoch")}
    values = settings(sources, [phase], seq_len=8)
    values["schedule"]["warmup_steps"] = 1
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(app, ["plan", str(path), "--price", "H100=2", "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    copies = {name: s["duplicate_tokens"] for name, s in printed["sources"].items()}
    assert sum(copies.values()) > 30
    unique = sum(source["unique_tokens"] for source in printed["sources"].values())
    assert printed["unique_tokens"] == unique == printed["tokens"] - sum(copies.values())
    table = CliRunner().invoke(app, ["plan", str(path), "--price", "H100=2", "--mfu", "0.4"])
    assert table.exit_code == 0, table.output
    shown = " ".join(table.output.split())
    for words in ("copies", "GPU hours", "cost", "1 x H200", "memory of a rank", "are in copy too"):
        assert words in shown
