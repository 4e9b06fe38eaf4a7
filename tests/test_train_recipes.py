"""The presets of the published recipes against the figures that were published for them."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from configs.loading import load
from configs.train import TrainConfig
from train.cli import app
from train.model import Decoder
from train.run_dir import plan_run
from train.segments import segment_at

RECIPES = Path("configs/recipes")


class Figures(NamedTuple):
    """What a preset must come to."""

    parameters: list[int]
    """Of each phase."""
    steps: list[int]
    tokens: int
    unique_tokens: int
    epochs: dict[str, float]
    flops_6n: float
    flops: float


TINYLM_A = Figures(
    [264_016_896],
    [23_000],
    24_117_248_000,
    8_000_000_000,
    {"fineweb_edu": 3.0147},
    3.82e19,
    4.91e19,
)
TINYLM_B = TINYLM_A._replace(parameters=[274_642_944], flops_6n=3.97e19, flops=5.61e19)
L20 = Figures(
    *([134_515_008], [18_928], 10_001_252_352, 4_282_499_072, {"fineweb_edu": 2.335}),
    *(8.07e18, 1.23e19),
)
PUBLISHED = {
    "tinylm_275m_a": TINYLM_A,
    "tinylm_275m_b": TINYLM_B,
    "tinylm_275m_c": TINYLM_A,
    "tinylm_275m_d": TINYLM_B,
    "gelu_d12_261m": Figures(
        *([261_096_338], [19_920], 5_221_908_480, 5_221_908_480, {"c4": 0.985}),
        *(3.45e18, 3.71e18),
    ),
    "l20_edu_135m": L20,
    "l20_edu_135m_as_run": L20._replace(parameters=[134_515_008] * 2, steps=[8_000, 10_928]),
    "shard_54m": Figures(
        *([54_538_752] * 2, [48_220, 20_000], 1_117_716_480, 1_114_537_984),
        *({"arc": 33.333, "openwebmath": 0.546}, 3.66e17, 4.92e17),
    ),
    "mtlm1_200m": Figures(
        [98_916_096, 173_255_424],
        [35_604, 35_604],
        7_000_031_232,
        3_500_038_144,
        {"cosmopedia": 2.0, "fineweb_edu": 2.0, "fineweb": 2.0, "wikipedia": 2.0},
        2.08e18 + 3.64e18,
        2.54e18 + 4.56e18,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_plan_before_the_dataset_is_built(name: str) -> None:
    result = CliRunner().invoke(app, ["plan", str(RECIPES / f"{name}.yaml"), "--json"])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.output)
    expected = PUBLISHED[name]
    assert [phase["parameters"] for phase in report["phases"]] == expected.parameters
    assert report["parameters"] == expected.parameters[-1]
    assert report["parameters"] > report["parameters_non_embedding"] > 0
    assert [phase["steps"] for phase in report["phases"]] == expected.steps
    assert report["steps"] == sum(expected.steps)
    assert report["tokens"] == expected.tokens
    assert report["unique_tokens"] == expected.unique_tokens
    sources = report["sources"].values()
    assert sum(source["tokens"] for source in sources) == expected.tokens
    assert sum(source["unique_tokens"] for source in sources) == expected.unique_tokens
    for source, epochs in expected.epochs.items():
        assert report["sources"][source]["epochs"] == pytest.approx(epochs, abs=1e-3)
    # Published to three digits.
    assert report["flops_6n"] == pytest.approx(expected.flops_6n, rel=2e-3)
    assert report["flops"] == pytest.approx(expected.flops, rel=2e-3)


def test_rows_of_2049_are_read_3_0161_times() -> None:
    result = CliRunner().invoke(app, ["plan", str(RECIPES / "tinylm_275m_a.yaml"), "--json"])
    source = json.loads(result.output)["sources"]["fineweb_edu"]
    assert source["epochs_read"] == pytest.approx(24_129_024_000 / 8e9, abs=1e-4)


def half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


# Name to steps and the rates that the publications' own formulas give them.
RATES: dict[str, dict[int, float]] = {
    "tinylm_275m_a": {
        0: 0.0,
        1: 1e-3 / 2000,
        1999: 1e-3 * 1999 / 2000,
        2000: 1e-3,
        12_500: 1e-3 * 0.55,
        22_999: 1e-3 * (0.1 + 0.9 * half_cosine(20_999 / 21_000)),
    },
    "gelu_d12_261m": {
        0: 0.0,
        250: 0.005,
        500: 0.01,
        10_210: (0.01 + 0.0005) / 2,
        # optax: decay_steps include the warm-up
        19_919: 0.0005 + 0.0095 * half_cosine((19_919 - 500) / (19_920 - 500)),
    },
    "l20_edu_135m": {
        0: 4e-7,
        1: 8e-7,
        999: 4e-4,
        9_000: 4e-4 * (0.1 + 0.9 * half_cosine(8_000 / 17_928)),
        18_927: 4e-4 * (0.1 + 0.9 * half_cosine(17_927 / 17_928)),
    },
    "shard_54m": {
        0: 3e-5,
        750: (3e-5 + 3e-4) / 2,
        1_500: 3e-4,
        48_219: 3e-4,
        48_220: 3e-4,
        53_220: 3e-5 + 2.7e-4 * (1 - 0.5),  # a quarter of the anneal, whose root is a half
        68_219: 3e-5 + 2.7e-4 * (1 - math.sqrt(19_999 / 20_000)),
    },
    "mtlm1_200m": {
        0: 8e-4 / 300,
        299: 8e-4,
        35_603: 8e-4 * (0.1 + 0.9 * half_cosine(35_303 / 35_304)),
        35_604: 8e-4 / 300,  # the grown model warms up again
        35_903: 8e-4,
        71_207: 8e-4 * (0.1 + 0.9 * half_cosine(35_303 / 35_304)),
    },
}
RATES["l20_edu_135m_as_run"] = RATES["l20_edu_135m"]  # the resumed run's schedule went on


def rates_of(name: str) -> tuple[TrainConfig, Callable[[int], float]]:
    config = load(RECIPES / f"{name}.yaml", TrainConfig)
    plan = plan_run(config, may_be_declared=True)
    return config, lambda step: segment_at(config, plan, step).span.rate(step)


@pytest.mark.parametrize("name", RATES)
def test_learning_rates_at_named_steps(name: str) -> None:
    config, rate = rates_of(name)
    found = {step: config.optimizer.lr * rate(step) for step in RATES[name]}
    assert found == pytest.approx(RATES[name], rel=1e-9, abs=1e-15)


def test_arms_differ_in_attention_and_optimizer_only() -> None:
    arms = [load(RECIPES / f"tinylm_275m_{arm}.yaml", TrainConfig) for arm in "abcd"]
    assert [arm.model.mla is not None for arm in arms] == [False, True, False, True]
    assert [arm.optimizer.muon is not None for arm in arms] == [False, False, True, True]
    same = [
        arm.model_copy(
            update={
                "name": "",
                "checkpoint": arms[0].checkpoint,  # arm C saves less often
                "model": arm.model.model_copy(update={"mla": None}),
                "optimizer": arm.optimizer.model_copy(update={"muon": None}),
            }
        )
        for arm in arms
    ]
    assert all(one == other for one, other in pairwise(same))


def test_shard_takes_eight_steep_and_two_settling_steps() -> None:
    muon = load(RECIPES / "shard_54m.yaml", TrainConfig).optimizer.muon
    assert muon is not None
    assert muon.newton_schulz == ((3.4445, -4.775, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2


def test_a_preset_can_be_trained_without_ai2_arc(tmp_path: Path) -> None:
    (tmp_path / "clean.yaml").write_text(
        f"extends: {(RECIPES / 'shard_54m.yaml').resolve()}\n"
        "data:\n  sources: {arc: null}\n  phases:\n"
        "    - {length: 5 steps, global_batch_tokens: 16384, weights: {fineweb_edu: 1}}\n"
    )
    config = load(tmp_path / "clean.yaml", TrainConfig)
    assert "arc" not in config.data.sources


def test_the_first_loss_of_gelu_is_that_of_its_formula() -> None:
    config = load(RECIPES / "tiny" / "gelu_d12_261m.yaml", TrainConfig).model
    points, weights = np.polynomial.hermite_e.hermegauss(101)  # of the normal distribution

    def expected(vocab_size: int, d_model: int) -> float:
        logits = 15 * np.tanh(0.8 * math.sqrt(d_model) * points / 15)
        return math.log(vocab_size * (weights @ np.exp(logits)) / weights.sum())

    model = Decoder(config).eval()
    model.initialise(seed=0)
    ids = torch.randint(config.vocab_size, (64, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids[:, :-1]).flatten(0, 1).float()
    loss = F.cross_entropy(logits, ids[:, 1:].flatten()).item()
    assert loss == pytest.approx(expected(config.vocab_size, config.d_model), abs=0.1)
    assert expected(32_768, 768) == pytest.approx(23.19, abs=0.005)
