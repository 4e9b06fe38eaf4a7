"""Runs that move to another number of ranks and another ZeRO stage, and back.

Data and ledger are exactly the same; weights and moments are carried over whole, so losses go on
but for the order in which sums are rounded. At the same ranks and stage not a bit changes.
"""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from configs.loading import load
from configs.train import TrainConfig
from tests.ranks import train_together
from tests.test_train_run import Bench, losses, weights
from train.checkpoint import checkpoint_path
from train.run_dir import plan_run, prepare

FIRST, SECOND, STEPS = 8, 16, 24
STAGES: dict[str, dict[str, Any]] = {
    "0": {"zero_stage": 0},
    "1": {"zero_stage": 1},
    "2": {"zero_stage": 2},
    "3": {"zero_stage": 3},
    "1-bf16": {"zero_stage": 1, "precision": "bf16"},
    "2-bf16": {"zero_stage": 2, "precision": "bf16"},
    "3-bf16": {"zero_stage": 3, "precision": "bf16"},
}
FEW = ["1"]
SHARDED = [
    pytest.param(name, marks=[] if name in FEW else pytest.mark.slow)
    for name in STAGES
    if name != "0"
]


class Runs:
    """A tiny run at some stages: straight on; stopped; moved to one rank and back.

    `staged` is at stage 0 on the one rank, and at stage 3 after it; `grown` grows while on it.
    """

    def __init__(self, directory: Path, names: list[str]) -> None:
        self.bench, self.names = Bench(directory), names
        moving = [*(("moved", name) for name in names), ("staged", names[0]), ("grown", names[0])]
        whole = [("whole", name) for name in ("0", *names)]
        parts = [("parts", name) for name in names]
        for kind, name in (*whole, *parts, *moving):
            self.prepare(kind, name)
        stops = [f"{self.path(*run)}:{stop}" for run in parts for stop in (SECOND, STEPS)]
        first = [f"{self.path(*run)}:{FIRST}" for run in moving]
        train_together(2, [*(f"{self.path(*run)}:{STEPS}" for run in whole), *stops, *first])
        for kind, name in moving:
            self.prepare(kind, name, "0" if kind == "staged" else name, micro_batch=2)
        train_together(1, [f"{self.path(*run)}:{SECOND}" for run in moving])
        for kind, name in moving:
            self.prepare(kind, name, "3" if kind == "staged" else name)
        train_together(2, [f"{self.path(*run)}:{STEPS}" for run in moving])

    def path(self, kind: str, name: str) -> Path:
        return self.bench.directory / f"{kind}-{name}"

    def prepare(self, kind: str, name: str, stage: str = "", **others: Any) -> None:
        overrides = [f"engine.{key}={value}" for key, value in STAGES[stage or name].items()]
        overrides += [f"{key}={value}" for key, value in others.items()]
        overrides += ["data.phases.0.length=12 steps", "data.phases.1.length=12 steps"]
        overrides += ["schedule.warmup_steps=5", "validation=null", "checkpoint.every_steps=100"]
        if kind == "grown":
            overrides += ["changes.anneal={num_layers: 4, optimizer_state: kept}"]
        config = load(self.bench.config, TrainConfig, overrides)
        prepare(self.path(kind, name), config, plan_run(config))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    names = [name for name in STAGES if name not in ("0", *FEW)]
    return Runs(tmp_path_factory.mktemp("many"), names)


@pytest.fixture
def runs(request: pytest.FixtureRequest, name: str) -> Runs:
    found: Runs = request.getfixturevalue("few" if name in FEW else "many")
    return found


@pytest.mark.parametrize("name", SHARDED)
def test_stops_change_no_bit(runs: Runs, name: str) -> None:
    whole, parts = runs.path("whole", name), runs.path("parts", name)
    assert weights(parts, STEPS) == weights(whole, STEPS)
    assert losses(parts) == losses(whole)


@pytest.mark.parametrize("name", SHARDED)
def test_moved_to_one_rank_and_back(runs: Runs, name: str) -> None:
    whole = runs.path("whole", name)
    for moved in (runs.path("moved", name), runs.path("staged", runs.names[0])):
        assert (moved / "ledger.jsonl").read_bytes() == (whole / "ledger.jsonl").read_bytes()
        assert len((moved / "restarts.jsonl").read_text().splitlines()) == 2
    moved = runs.path("moved", name)
    assert losses(moved)[:FIRST] == losses(whole)[:FIRST]
    # bfloat16 weights make more of the last digit of a gradient than float32 ones.
    assert losses(moved) == pytest.approx(losses(whole), rel=5e-3 if "bf16" in name else 1e-5)


@pytest.mark.parametrize("name", FEW[:1])
def test_moved_to_other_stages(runs: Runs, name: str) -> None:
    staged = runs.path("staged", name)
    assert losses(staged) == pytest.approx(losses(runs.path("whole", "0")), rel=1e-4)


@pytest.mark.parametrize("name", SHARDED)
def test_checkpoints_are_alike_at_every_stage(runs: Runs, name: str) -> None:
    """By name, shape and step count, and without anything that could run code."""
    first, other = (checkpoint_path(runs.path("whole", n), STEPS) for n in ("0", name))
    assert {path.suffix for path in other.iterdir()} <= {".safetensors", ".json", ".yaml", ""}
    theirs = moments(other)
    assert {n: t.shape for n, t in theirs.items()} == {
        n: t.shape for n, t in moments(first).items()
    }
    assert {t.item() for n, t in theirs.items() if n.endswith("/step")} == {STEPS}


def moments(checkpoint: Path) -> dict[str, Any]:
    files = sorted(checkpoint.glob("optimizer_*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", FEW[:1])
def test_growth_keeps_moments_that_were_cut_up(runs: Runs, name: str) -> None:
    grown = runs.path("grown", name)
    old, new = (moments(checkpoint_path(grown, step)) for step in (12, STEPS))
    layers = {name.split(".")[1] for name in new if name.startswith("layers.")}
    assert layers == {"0", "1", "2", "3"}
    assert {t.item() for n, t in old.items() if n.endswith("/step")} == {12}
    assert {t.item() for n, t in new.items() if n.endswith("/step")} == {STEPS}
