"""Numbers that are not finite, or far too large, in gradients and weights of real runs.

What was injected how often, and what came of it, is tabled in docs/reliability.md.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from configs.loading import load
from configs.optimizer import MuonConfig, OptimizerConfig
from configs.train import TrainConfig
from shards.accounts import read_accounts, verify_run
from shards.hashing import blake3_file
from tests.helpers import byte_tokenizer, make_dataset
from tests.ranks import train_together
from tests.test_train_run import SEQ_LEN, Bench, alphabets, losses, metrics
from train.checkpoint import begin, checkpoint_path, finish, temporary_path
from train.curves import Series, chart, moving_average
from train.muon import orthogonalise, update_scale
from train.optimizer import build_optimizer
from train.run_data import run_datasets, run_plan
from train.run_dir import plan_run, prepare

STEPS, FAULTS = 12, (5, 6, 7, 8, 9)
KINDS: dict[str, tuple[str, ...]] = {
    "0": (),
    "1": ("engine.zero_stage=1",),
    "2": ("engine.zero_stage=2",),
    "3": ("engine.zero_stage=3",),
    "2-bf16": ("engine.zero_stage=2", "engine.precision=bf16"),
    "muon": ("optimizer.muon={lr: 0.02}",),
    "muon-1": ("optimizer.muon={lr: 0.02}", "engine.zero_stage=1"),
}
FEW = [("0", "nan"), ("2", "nan"), ("3", "nan"), ("muon-1", "nan"), ("0", "spike"), ("0", "none")]
MANY = [("1", "nan"), ("2-bf16", "nan"), ("muon", "nan"), ("0", "inf"), ("0", "huge")]
MANY += [("2", "huge"), *((kind, fault) for kind in ("2", "muon") for fault in ("spike", "none"))]


class Faults:
    """Runs whose gradients are damaged on the second of two ranks, in one pair of processes."""

    def __init__(self, directory: Path, wanted: list[tuple[str, str]]) -> None:
        self.bench = Bench(directory)
        at = {"none": f"nan@{STEPS}", "spike": "spike@5"}
        steps = ",".join(map(str, FAULTS))
        asked = [
            f"{self.prepared(kind, fault)}:{STEPS}:1:{at.get(fault, f'{fault}@{steps}')}"
            for kind, fault in wanted
        ]
        self.said = train_together(2, asked, "tests.faults")

    def path(self, kind: str, fault: str) -> Path:
        return self.bench.directory / f"{fault}-{kind}"

    def prepared(self, kind: str, fault: str) -> Path:
        settings = ["checkpoint.every_steps=5", "optimizer.max_skipped_steps=5", "validation=null"]
        config = load(self.bench.config, TrainConfig, [*settings, *KINDS[kind]])
        prepare(self.path(kind, fault), config, plan_run(config))
        return self.path(kind, fault)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture
def faults(request: pytest.FixtureRequest, kind: str, fault: str) -> Faults:
    found: Faults = request.getfixturevalue("few" if (kind, fault) in FEW else "many")
    return found


def cases(*, spiked: bool) -> list[Any]:
    """Those of FEW, and those of MANY as slow ones."""
    return [
        pytest.param(*case, marks=[] if case in FEW else pytest.mark.slow, id="-".join(case))
        for case in (*FEW, *MANY)
        if case[1] != "none" and (case[1] == "spike") == spiked
    ]


def state(run: Path, step: int) -> dict[str, str]:
    """Digests of weights and moments."""
    files = sorted(checkpoint_path(run, step).glob("[mo]*.safetensors"))
    return {path.name: blake3_file(path) for path in files}


@pytest.mark.parametrize(("kind", "fault"), cases(spiked=False))
def test_a_gradient_that_is_not_finite_changes_nothing(
    faults: Faults, kind: str, fault: str
) -> None:
    run = faults.path(kind, fault)
    lines = metrics(run)
    assert [line["step"] for line in lines if line["grad_norm"] is None] == list(FAULTS)
    assert [line["skipped_steps"] for line in lines] == [0] * 5 + [1, 2, 3, 4, 5] + [5] * 2
    assert state(run, 10) == state(run, 5)
    assert state(run, 12) != state(run, 10)
    assert all(math.isfinite(loss) for loss in losses(run))
    books = read_accounts(run, None)  # skipped windows were read, and are counted
    assert list(verify_run(books, tokens=True)) == []
    assert f"step {FAULTS[0]}: gradient not finite, it read " in faults.said


@pytest.mark.parametrize(("kind", "fault"), cases(spiked=True))
def test_a_spike_is_clipped_and_told(faults: Faults, kind: str, fault: str) -> None:
    spiked, plain = faults.path(kind, fault), faults.path(kind, "none")
    norms = [line["grad_norm"] for line in metrics(spiked)]
    assert norms[5] > 100 * max(norms[:5])
    assert metrics(spiked)[-1]["skipped_steps"] == 0
    assert losses(spiked)[:6] == losses(plain)[:6]
    assert losses(spiked)[6:] == pytest.approx(losses(plain)[6:], rel=0.1)
    assert losses(spiked)[-1] < losses(spiked)[5]


RARE = "Z"


def rare_run(directory: Path) -> tuple[Path, Path]:
    """A run whose documents have a letter that few of them hold, and another of its kind."""
    bench = Bench(directory)
    texts = [*alphabets(60, 0), f"ab{RARE}cdef", f"xy{RARE}{RARE}", f"{RARE}mno"]
    make_dataset(directory / "rare", {"one": texts})
    phase = {"length": "40 steps", "global_batch_tokens": 4 * SEQ_LEN, "weights": {"one": 1}}
    values = yaml.safe_load(bench.config.read_text())
    sources = {"one": {"dataset": str(directory / "rare")}}
    values["data"] |= {"sources": sources, "phases": [phase]}
    values["model"]["tie_embeddings"] = False
    values["optimizer"]["max_skipped_steps"] = 30
    values |= {"micro_batch": 4, "validation": None}
    config = TrainConfig.model_validate(values)
    runs = directory / "row", directory / "matrix"
    for run in runs:
        prepare(run, config, plan_run(config))
    return runs


def break_weights(run: Path, step: int, damage: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Rewrite a checkpoint with other weights, as a trainer with broken memory would."""
    folder = checkpoint_path(run, step)
    weights = load_file(folder / "model.safetensors")
    damage(weights)
    begin(run, step)
    for file in folder.iterdir():
        if file.name != "COMPLETE":
            (temporary_path(run, step) / file.name).write_bytes(file.read_bytes())
    save_file(weights, temporary_path(run, step) / "model.safetensors")
    finish(run, step)


def steps_that_read(run: Path, token: int) -> list[int]:
    """Steps with the token among the inputs, by reading everything."""
    plan, dataset = run_plan(run), next(iter(run_datasets(run).values()))
    stream, found = dataset.stream("one"), []
    for step in range(plan.num_steps):
        rows = stream.windows(plan.step(step).window, SEQ_LEN)
        if np.any(rows[:, :-1] == token):
            found.append(step)
    return found


def test_broken_weights_in_one_row_and_in_a_matrix(tmp_path: Path) -> None:
    """A row of the embedding spoils the steps that read its token; a matrix spoils all of them."""
    row, matrix = rare_run(tmp_path)
    token = byte_tokenizer().token_to_id(RARE)
    assert token is not None
    train_together(1, [f"{run}:10" for run in (row, matrix)])

    def spoil_row(weights: dict[str, torch.Tensor]) -> None:
        weights["embedding.weight"][token] = math.nan

    def spoil_matrix(weights: dict[str, torch.Tensor]) -> None:
        weights["layers.1.attention.o_proj.weight"][0, 0] = math.inf

    break_weights(row, 10, spoil_row)
    break_weights(matrix, 10, spoil_matrix)
    said = train_together(1, [f"{row}:40", f"{matrix}:20"])
    skipped = [line["step"] for line in metrics(row) if line["grad_norm"] is None]
    assert skipped == [step for step in steps_that_read(row, token) if step >= 10]
    assert 0 < len(skipped) < 20
    assert all(f"step {step}: gradient not finite, it read " in said for step in skipped)
    assert f"tally trace {row} --step {skipped[0]}" in said.replace("\n", " ")
    assert {line["loss"] for line in metrics(row) if line["step"] in skipped} == {None}
    weights = load_file(checkpoint_path(row, 40) / "model.safetensors")
    wrong = {name: tensor for name, tensor in weights.items() if not tensor.isfinite().all()}
    assert set(wrong) == {"embedding.weight"}
    assert (~wrong["embedding.weight"].isfinite()).any(1).nonzero().flatten().tolist() == [token]
    assert [line["grad_norm"] for line in metrics(matrix)[10:]] == [None] * 10
    assert metrics(matrix)[-1]["skipped_steps"] == 10
    for run in (row, matrix):
        assert list(verify_run(read_accounts(run, None), tokens=True)) == []


def test_curves_pass_over_losses_of_skipped_steps() -> None:
    found = moving_average([1.0, None, 3.0, 5.0], 2)
    assert found == [1.0, 1.0, 2.0, 4.0]
    losses_with_gap: Any = [1.0, None, 3.0]
    drawn = chart([Series("loss", "faint", [1, 2, 3], losses_with_gap)], "steps", "loss", 720)
    assert "nan" not in drawn


KELLER_JORDAN = ((3.4445, -4.7750, 2.0315),) * 5
DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("shape", [(1, 1), (1, 48), (48, 1), (3, 64), (64, 3), (32, 32)])
def test_any_scale_gives_a_bounded_direction(
    shape: tuple[int, int], scale: float, dtype: torch.dtype
) -> None:
    """Singular values of 0.6 to 1.2, whatever the scale; below 1e-7 the direction fades to zero."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale
    singular = torch.linalg.svdvals(orthogonalise(values, KELLER_JORDAN, dtype).float())
    assert singular.isfinite().all()
    assert singular.max() < 1.3
    # A square matrix has singular values near zero, which five steps do not lift.
    if scale >= 1e-6 and shape != (32, 32):
        assert singular.min() > 0.5
    if scale == 1e-30:
        assert singular.max() < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2])
def test_lost_rank_stays_lost_and_finite(rank: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    low = torch.randn(24, rank, generator=generator) @ torch.randn(rank, 40, generator=generator)
    singular = torch.linalg.svdvals(orthogonalise(low, KELLER_JORDAN, dtype).float())
    assert singular[:rank].min() > 0.5
    assert singular[0] < 1.3
    assert singular[rank:].max() < (1e-3 if dtype == torch.float32 else 0.6)


def test_one_bad_element_makes_the_direction_worthless() -> None:
    """So it must not come this far: the norm of the whole gradient is looked at before."""
    for value in (math.nan, math.inf):
        matrix = torch.ones(4, 6)
        matrix[1, 2] = value
        assert not orthogonalise(matrix, KELLER_JORDAN, torch.float32).isfinite().all()


def test_a_matrix_without_gradient_only_decays() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 6))
    config = OptimizerConfig(lr=1.0, muon=MuonConfig(lr=0.1, weight_decay=0.5))
    optimizer = build_optimizer([("layers.0.w", weight)], config)
    weight.grad = torch.zeros(4, 6)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 6), 0.95))
    assert update_scale(4, 6, "tall") == 1.0
