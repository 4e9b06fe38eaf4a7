"""Muon against torch's where they agree, against float64 where they do not; who owns what."""

from typing import Any

import numpy as np
import pytest
import torch

from configs.model import ModelConfig
from configs.optimizer import MuonConfig, MuonScale, OptimizerConfig
from train.model import Decoder
from train.muon import orthogonalise, update_scale
from train.optimizer import build_optimizer, set_lr
from train.owners import owners

KELLER_JORDAN = (3.4445, -4.7750, 2.0315)
EIGHT_AND_TWO = [KELLER_JORDAN] * 8 + [(2.0, -1.5, 0.5)] * 2
MODEL = ModelConfig(
    vocab_size=64,
    num_layers=2,
    d_model=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    ffn_dim=48,
    max_seq_len=8,
)


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def in_float64(values: torch.Tensor, steps: list[tuple[float, float, float]]) -> Any:
    """The iteration as published, in numpy."""
    x = values.double().numpy()
    x = x / np.linalg.norm(x)
    for a, b, c in steps:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_ten_steps_equal_float64_and_are_orthogonal(shape: tuple[int, int]) -> None:
    values = matrix(*shape)
    found = orthogonalise(values, EIGHT_AND_TWO, torch.float32).numpy()
    np.testing.assert_allclose(found, in_float64(values, EIGHT_AND_TWO), atol=2e-5)
    # Two steps of (2, -1.5, 0.5) end where eight of the steeper ones only oscillate.
    np.testing.assert_allclose(np.linalg.svd(found)[1], 1.0, atol=1e-3)


def test_degenerate_matrices_stay_finite() -> None:
    zeros = orthogonalise(torch.zeros(4, 6), [KELLER_JORDAN] * 5, torch.bfloat16)
    assert zeros.abs().max() == 0
    rank_one = torch.outer(torch.ones(4), torch.arange(6.0))
    found = orthogonalise(rank_one * 1e-20, EIGHT_AND_TWO, torch.float32)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("scale", "tall", "wide"),
    [("tall", 2.0, 1.0), ("aspect", 2.0, 2.0), ("rms_0.18", 3.6, 3.6), ("rms_0.2", 4.0, 4.0)],
)
def test_scales(scale: MuonScale, tall: float, wide: float) -> None:
    assert update_scale(400, 100, scale) == pytest.approx(tall)
    assert update_scale(100, 400, scale) == pytest.approx(wide)


@pytest.mark.parametrize(
    ("scale", "torchs"), [("tall", "original"), ("rms_0.2", "match_rms_adamw")]
)
@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_agrees_with_torch(scale: MuonScale, torchs: str, shape: tuple[int, int]) -> None:
    """torch sums the momentum, we average it: the direction is the same."""
    ours, theirs = (torch.nn.Parameter(matrix(*shape)) for _ in range(2))
    muon = MuonConfig(lr=0.1, weight_decay=0.5, scale=scale)
    optimizer = build_optimizer([("layers.0.w", ours)], OptimizerConfig(lr=1.0, muon=muon))
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.5, adjust_lr_fn=torchs)
    for step in range(4):
        ours.grad, theirs.grad = (matrix(*shape, seed=10 + step) for _ in range(2))
        optimizer.step()
        reference.step()  # type: ignore[no-untyped-call]
    # bfloat16 rounds at 2^-8 of an update of about 0.1 to 0.3 an element.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)


def test_tables_and_vectors_stay_with_adamw_and_rates_differ() -> None:
    model = Decoder(MODEL)
    config = OptimizerConfig(lr=0.2, weight_decay=0.3, muon=MuonConfig(lr=0.02, weight_decay=0.1))
    optimizer = build_optimizer(model.named_parameters(), config)
    set_lr(optimizer, 0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        (group["muon"], group["lr"], group["weight_decay"]): {
            names[id(p)].split(".")[-2] for p in group["params"]
        }
        for group in optimizer.param_groups
    }
    projections = {f"{letter}_proj" for letter in "qkvo"} | {"gate_proj", "up_proj", "down_proj"}
    assert found == {
        (True, 0.01, 0.1): projections,
        (False, 0.1, 0.3): {"embedding"},
        (False, 0.1, 0.0): {"attention_norm", "ffn_norm", "norm"},
    }


def test_every_parameter_has_one_owner_and_the_work_is_even() -> None:
    named = dict(Decoder(MODEL).named_parameters())
    config = OptimizerConfig(lr=0.1, muon=MuonConfig(lr=0.1))
    found = owners(named.items(), config, world_size=3)
    assert set(found) == set(named)
    work = [0, 0, 0]
    for name, rank in found.items():
        shape = named[name].shape
        work[rank] += named[name].numel() * (min(shape) if name.startswith("layers.") else 1)
    assert max(work) < 1.1 * min(work)
    assert owners(reversed(named.items()), config, world_size=3) == found
