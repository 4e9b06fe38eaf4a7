"""A run whose plan grows by phases at its end, and all that is refused instead."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.train import TrainConfig
from shards.ledger import read_ledger, verify
from shards.plan_file import earlier_plans, load_plan
from shards.reader import Dataset
from tests.helpers import make_dataset
from tests.ranks import train_together
from train.errors import TrainError
from train.run_dir import plan_run, prepare

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("append")
    texts = {"web": ["abcdefgh" * 9, "hgfedcba" * 8], "math": ["123" * 20]}
    make_dataset(directory / "data", texts)
    make_dataset(directory / "more", {"code": ["if x: y" * 12, "123" * 20]})
    return directory


def values(base: Path) -> dict[str, Any]:
    phase = {"name": "first", "length": "6 steps", "global_batch_tokens": 16}
    return {
        "name": "t",
        "data": {
            "seq_len": 4,
            "sources": {name: {"dataset": str(base / "data")} for name in ("web", "math")},
            "phases": [phase | {"weights": {"web": 2, "math": 1}}],
        },
        "model": {
            "vocab_size": 300,
            "num_layers": 1,
            "d_model": 8,
            "num_heads": 2,
            "num_kv_heads": 1,
            "head_dim": 4,
            "ffn_dim": 12,
            "max_seq_len": 8,
        },
        "optimizer": {"lr": 0.01},
        "schedule": {"shape": "cosine", "warmup_steps": 1},
        "micro_batch": 2,
        "checkpoint": {"every_steps": 4},
    }


def grown(base: Path) -> dict[str, Any]:
    """The same with a phase of longer windows that reads another dataset too."""
    new = values(base)
    new["data"]["sources"]["code"] = {"dataset": str(base / "more")}
    phase = {"name": "long", "length": "5 steps", "global_batch_tokens": 16, "seq_len": 8}
    new["data"]["phases"].append(phase | {"weights": {"web": 1, "code": 1}})
    return new


def start(run: Path, settings: dict[str, Any]) -> None:
    config = TrainConfig.model_validate(settings)
    prepare(run, config, plan_run(config))


def test_a_phase_may_be_appended_and_is_remembered(base: Path, tmp_path: Path) -> None:
    start(tmp_path, values(base))
    old = load_plan(tmp_path / "plan.json")[0]
    for _ in range(2):  # a resumed run is prepared again
        start(tmp_path, grown(base))
    (before,) = earlier_plans(tmp_path / "plan.json")
    assert (before.plan_id, before.num_phases, before.num_sources) == (old.plan_id, 1, 2)
    with pytest.raises(TrainError, match=r"data\.phases\.1: .*'long'.* / None"):
        start(tmp_path, values(base))


def change(settings: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    *path, last = where.split(".")
    place: Any = settings
    for key in path:
        place = place[int(key) if isinstance(place, list) else key]
    place[last] = value
    return settings


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("data.phases.0.length", "7 steps", r"data\.phases\.0\.length: 6 steps / 7 steps"),
        ("data.phases.0.global_batch_tokens", 32, r"global_batch_tokens: 16 / 32"),
        ("data.phases.0.weights", {"web": 1, "math": 1}, r"weights\.web: 2\.0 / 1\.0"),
        ("data.seed", 5, r"data\.seed: 0 / 5"),
        ("data.order", "sequential", r"data\.order: shuffled / sequential"),
        ("data.sources.web.split", "val", "no split of web 'val'"),
        ("optimizer.lr", 0.02, r"optimizer\.lr: 0\.01 / 0\.02"),
        ("seed", 9, "seed: 0 / 9"),
    ],
)
def test_any_other_change_is_refused_and_named(
    base: Path, tmp_path: Path, where: str, value: Any, said: str
) -> None:
    start(tmp_path, values(base))
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(Exception, match=said):
        start(tmp_path, change(grown(base), where, value))
    assert (tmp_path / "plan.json").read_bytes() == before


def test_new_sources_come_after_the_old_ones(base: Path, tmp_path: Path) -> None:
    start(tmp_path, values(base))
    new = grown(base)
    sources = new["data"]["sources"]
    new["data"]["sources"] = {name: sources[name] for name in ("code", "web", "math")}
    with pytest.raises(TrainError, match="sources of theirs after the old ones"):
        start(tmp_path, new)


def test_another_release_of_the_order_is_refused(base: Path, tmp_path: Path) -> None:
    start(tmp_path, values(base))
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace("feistel-ab-6", "feistel-ab-7"))
    with pytest.raises(Exception, match=r"feistel-ab-7.*this release replays"):
        start(tmp_path, grown(base))


def test_a_trained_run_goes_on_into_the_new_phase(base: Path, tmp_path: Path) -> None:
    """Trained for real on two ranks, then by the command on one: the ledger proves all steps."""
    run = tmp_path / "run"
    start(run, values(base))
    train_together(2, [f"{run}:6"])
    old = load_plan(run / "plan.json")[0]
    said = train(tmp_path, run, grown(base))
    assert f"the plan has grown from {old.plan_id}" in said
    plan, addresses = load_plan(run / "plan.json")
    entries = list(read_ledger(run))
    streams = {
        s.name: Dataset.open(addresses[s.name]).stream(s.source, s.split) for s in plan.sources
    }
    assert [d for found in verify(plan, entries, streams) for d in found] == []
    assert (len(entries), plan.seq_len_at(5), plan.seq_len_at(6)) == (11, 4, 8)
    assert (list(entries[5].windows), entries[6].windows["code"]) == (["web", "math"], 1)
    restart = json.loads((run / "restarts.jsonl").read_text().splitlines()[-1])
    assert (restart["resumed_at"], restart["appended_to"]) == (6, old.plan_id)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["tokens"] == 11 * 16
    assert lines[-1]["unique_tokens"] == sum(a.unique_tokens for a in plan.account(11))


def train(directory: Path, run: Path, settings: dict[str, Any]) -> str:
    config = directory / "train.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "train", "train", str(config), "-o", str(run)]
    result = subprocess.run(
        [*command, "--ranks", "1"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
