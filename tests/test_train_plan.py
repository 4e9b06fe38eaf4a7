"""Before training: counts by formula, the plan report, refusals, the RUN directory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from configs.loading import load
from configs.model import ModelConfig
from configs.train import TrainConfig
from shards.errors import DatasetError
from tests.helpers import make_dataset
from train.cli import app
from train.errors import TrainError
from train.flops import count_parameters, flops_per_token, mfu, peak_flops
from train.model import Decoder
from train.planreport import Assumptions, report
from train.plantables import duration
from train.run_dir import (
    check_ranks,
    config_yaml,
    exclusive,
    plan_run,
    prepare,
    read_config,
)
from train.worth import effective_tokens

SEQ_LEN = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of 40 + 1 and 9 + 1 tokens: 10 windows and no tail, 2 windows and a tail of 1."""
    directory = tmp_path_factory.mktemp("plan") / "dataset"
    texts = {"long": ["x" * 40], "short": ["y" * 9]}
    make_dataset(directory, texts, val={"long": ["z" * 9], "short": ["z" * 9]})
    return directory


def values(dataset: Path) -> dict[str, Any]:
    return {
        "name": "t",
        "data": {
            "seq_len": SEQ_LEN,
            "sources": {name: {"dataset": str(dataset)} for name in ("long", "short")},
            "phases": [
                {
                    "length": "6 steps",
                    "global_batch_tokens": 16,
                    "weights": {"long": 0.5, "short": 0.5},
                }
            ],
        },
        "model": {
            "vocab_size": 300,
            "num_layers": 2,
            "d_model": 8,
            "num_heads": 2,
            "num_kv_heads": 1,
            "head_dim": 4,
            "ffn_dim": 12,
            "max_seq_len": 8,
        },
        "optimizer": {"lr": 0.1},
        "schedule": {"shape": "cosine", "warmup_steps": 1},
        "micro_batch": 2,
        "checkpoint": {"every_steps": 5},
        "validation": {"every_steps": 5},
    }


def config(dataset: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(values(dataset) | changes)


@pytest.mark.parametrize("tied", [True, False])
def test_formula_counts_what_the_model_has(tied: bool) -> None:
    model = ModelConfig(
        vocab_size=97,
        num_layers=3,
        d_model=24,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        ffn_dim=40,
        max_seq_len=16,
        tie_embeddings=tied,
    )
    decoder, count = Decoder(model), count_parameters(model)
    assert count.total == decoder.num_parameters()
    assert count.non_embedding == decoder.num_parameters(non_embedding=True)
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    in_products = sum(layer.weight.numel() for layer in linear)
    assert count.matmul == in_products + (97 * 24 if tied else 0)
    assert flops_per_token(model, 16, attention=False) == 6 * count.matmul
    assert flops_per_token(model, 16) == 6 * count.matmul + 12 * 3 * 48 * 16


def test_published_flops_of_l20_edu_135m() -> None:
    """38,541 tokens/s on an L20 are 39.7% of its peak, by the published run's own figures."""
    model = ModelConfig(
        vocab_size=49_152,
        num_layers=30,
        d_model=576,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        ffn_dim=1536,
        max_seq_len=2048,
    )
    assert mfu(38_541, model, 2048, "NVIDIA L20") == pytest.approx(0.397, abs=0.001)
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("AMD EPYC") is None


def test_report_by_hand(dataset: Path) -> None:
    run = config(dataset)
    result = report(run, plan_run(run), Assumptions(tokens_per_s=96 / 3600))
    assert (result.steps, result.tokens) == (6, 96)
    long, short = result.sources
    assert (long.available_tokens, long.windows, long.tokens) == (40, 12, 48)
    assert (long.unique_tokens, long.epochs, long.tail_tokens) == (40, 1.2, 0)
    assert (short.available_tokens, short.windows, short.tokens) == (8, 12, 48)
    assert (short.unique_tokens, short.epochs, short.tail_tokens) == (8, 6.0, 1)
    assert result.unique_tokens == 48
    assert result.hardware[0].hours_low == pytest.approx(1.0)
    assert result.warnings == [
        "short: read 6.0 times; its 48 tokens teach as much as 42.2 fresh ones (88%)",
        "short: the last 1 of 10 tokens are in no window; a shorter data.seq_len loses fewer",
        f"long, short: no audit in {dataset}.audit; `tally audit {dataset} -b olmo:all` tells "
        "which benchmarks are in it",
    ]
    count = count_parameters(run.model).total
    assert result.memory_gib["weights"] == pytest.approx(4 * count / 2**30)
    assert result.memory_gib["optimizer"] == pytest.approx(8 * count / 2**30)


def test_text_shared_by_datasets_built_apart_is_told(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_dataset(other, {"more": ["y" * 9, "w" * 20]}, val={"more": ["v"]})
    data = values(dataset)["data"]
    data["sources"]["more"] = {"dataset": str(other)}
    data["phases"][0]["weights"]["more"] = 1
    run = config(dataset, data=data)
    result = report(run, plan_run(run), Assumptions())
    assert result.overlaps == [("short", "more", 1, 10)]
    said = [line for line in result.warnings if "1 documents of more (10 tokens)" in line]
    assert said == [
        "1 documents of more (10 tokens) are in short too; reading both repeats them, and they "
        "count as unique once"
    ]


def test_worth_of_repeated_tokens() -> None:
    """1B tokens 21 times against 8B about three times, for the same 24B or so of compute."""
    billion = 10**9
    assert effective_tokens(billion, billion) == billion
    assert effective_tokens(billion, 21 * billion) == pytest.approx(12.19 * billion, rel=1e-3)
    assert effective_tokens(8 * billion, 24 * billion) == pytest.approx(23.0 * billion, rel=1e-2)
    assert effective_tokens(billion, 10**15) == pytest.approx(16.388 * billion, rel=1e-4)
    assert effective_tokens(0, 0) == 0


def test_a_plan_before_the_dataset_is_built(dataset: Path, tmp_path: Path) -> None:
    missing = {"dataset": str(tmp_path / "not-built"), "declared_tokens": 8_000_000_001}
    data = values(dataset)["data"] | {
        "sources": {"edu": missing},
        "phases": [{"global_batch_tokens": 1 << 20, "read": {"edu": "3 epochs"}}],
        "seq_len": 8,
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values(dataset) | {"data": data}))
    result = CliRunner().invoke(app, ["plan", str(file), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["steps"] == 3 * 8_000_000_000 // (1 << 20)
    assert report["unique_tokens"] == report["sources"]["edu"]["unique_tokens"] == 8_000_000_000
    assert report["sources"]["edu"]["declared"]
    assert report["parameters"] > report["parameters_non_embedding"] > 0
    assert report["warnings"] == ["edu: its size is declared; the dataset is not built yet"]
    with pytest.raises(DatasetError, match="not a complete dataset"):
        plan_run(load(file, TrainConfig))


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (1e-7, "under 0.1 s"),
        (0.2 / 3600, "0.2 s"),
        (0.03, "108 s"),
        (35 / 60, "35 min"),
        (9.44, "9.4 h"),
    ],
)
def test_durations_are_readable(hours: float, text: str) -> None:
    assert duration(hours) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"shape": "cosine", "warmup_steps": 7}}, "do not fit into the 6 steps"),
        ({"engine": {"precision": "bf16"}}, "trains wrong"),
        ({"validation": {"every_steps": 5, "split": "test"}}, "no split of long 'test'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    dataset: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((TrainError, DatasetError), match=message):
        plan_run(config(dataset, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 256}, "model.vocab_size = 256 but the tokenizer has 257 ids"),
        ({"max_seq_len": 2}, "data.seq_len = 4 is longer than model.max_seq_len = 2"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(
    dataset: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        plan_run(config(dataset, model=values(dataset)["model"] | change))


def test_ranks_that_cannot_share_the_batch_are_refused(dataset: Path) -> None:
    run = config(dataset)
    check_ranks(run, plan_run(run), 2)
    with pytest.raises(TrainError, match="4 windows cannot be dealt evenly to 3 rank"):
        check_ranks(run, plan_run(run), 3)


def test_run_directory_holds_the_resolved_config(dataset: Path, tmp_path: Path) -> None:
    run = config(dataset)
    prepare(tmp_path, run, plan_run(run))
    assert read_config(tmp_path) == run
    assert json.loads((tmp_path / "plan.json").read_text())["plan_id"] == plan_run(run).plan_id


def test_free_settings_may_change_on_resume(dataset: Path, tmp_path: Path) -> None:
    run = config(dataset)
    prepare(tmp_path, run, plan_run(run))
    moved = config(
        dataset,
        micro_batch=4,
        checkpoint={"every_steps": 2},
        launch={"ranks": 1},
        engine={"zero_stage": 2},
    )
    prepare(tmp_path, moved, plan_run(moved))
    assert read_config(tmp_path) == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed: 0 / 1"),
        ({"optimizer": {"lr": 0.2}}, "optimizer.lr: 0.1 / 0.2"),
        ({"engine": {"precision": "bf16_autocast"}}, "engine.precision: fp32 / bf16_autocast"),
    ],
)
def test_another_run_in_the_directory_is_refused(
    dataset: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run, other = config(dataset), config(dataset, **changes)
    prepare(tmp_path, run, plan_run(run))
    with pytest.raises(TrainError, match=message):
        prepare(tmp_path, other, plan_run(other))


def test_another_dataset_at_the_same_place_is_refused(tmp_path: Path) -> None:
    texts = {"long": ["x" * 40], "short": ["y" * 9]}
    val = {"long": ["z" * 9], "short": ["z" * 9]}
    run = config(tmp_path / "dataset")
    make_dataset(tmp_path / "dataset", texts, val)
    prepare(tmp_path / "run", run, plan_run(run))
    (tmp_path / "dataset").rename(tmp_path / "old")
    make_dataset(tmp_path / "dataset", texts | {"long": ["x" * 44]}, val)
    with pytest.raises(TrainError, match=r"sources\.0\.dataset_id"):
        prepare(tmp_path / "run", run, plan_run(run))


def test_two_processes_cannot_train_one_run(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path),
        pytest.raises(TrainError, match="another process is training this run"),
        exclusive(tmp_path),
    ):
        pass
    with exclusive(tmp_path):  # free again
        pass


def test_plan_command_prints_json(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values(dataset)))
    result = CliRunner().invoke(app, ["plan", str(path), "optimizer.lr=0.3", "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert (printed["steps"], printed["tokens"]) == (6, 96)


def test_dry_run_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values(dataset)))
    arguments = ["train", str(path), "-o", str(tmp_path / "run"), "--dry-run"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "parameters" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted(Path("configs").rglob("train*.yaml")), ids=str)
def test_shipped_configs_load(path: Path, tmp_path: Path) -> None:
    shipped = load(path, TrainConfig)
    (tmp_path / "again.yaml").write_text(config_yaml(shipped))
    assert load(tmp_path / "again.yaml", TrainConfig) == shipped
