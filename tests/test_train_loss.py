"""The loss in pieces equals the loss at once: value, gradients, memory."""

import math

import pytest
import torch
import torch.nn.functional as F

from train import loss
from train.loss import IGNORED, Head, capped, loss_sums


def inputs(positions: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(positions, 8, generator=generator, requires_grad=True)
    weight = torch.randn(13, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, 13, (positions,), generator=generator)
    targets[::7] = IGNORED
    return x, weight, targets


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_equals_the_plain_loss(
    cap: float | None, z_loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "LOSS_PIECE", 16)  # 50 positions: three pieces and a rest
    x, weight, targets = inputs()
    total, cross_entropy = loss_sums(x, targets, Head(weight, cap, z_loss))
    (total / 3).backward()  # type: ignore[no-untyped-call]
    in_pieces = x.grad, weight.grad
    x.grad = weight.grad = None
    logits = x @ weight.T
    logits = cap * torch.tanh(logits / cap) if cap else logits
    plain = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    penalty = (logits.logsumexp(-1)[targets != IGNORED] ** 2).sum()
    ((plain + z_loss * penalty) / 3).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(cross_entropy, plain)
    torch.testing.assert_close(total, plain + z_loss * penalty)
    torch.testing.assert_close(in_pieces, (x.grad, weight.grad))


def test_z_loss_has_a_gradient() -> None:
    """All logits equal: cross entropy is at rest, and only the z-loss pulls."""
    x, weight = torch.ones(1, 4), torch.ones(5, 4, requires_grad=True)
    targets = torch.tensor([2])
    without, having = (
        torch.autograd.grad(loss_sums(x, targets, Head(weight, None, z))[0], weight)[0].sum()
        for z in (0.0, 0.1)
    )
    assert float(without) == pytest.approx(0, abs=1e-5)
    assert float(having) == pytest.approx(0.1 * 2 * (4 + math.log(5)) * 4, rel=1e-5)


def test_all_targets_ignored() -> None:
    x, weight, targets = inputs()
    total, _ = loss_sums(x, torch.full_like(targets, IGNORED), Head(weight, None, 0.1))
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0
    assert x.grad is not None
    assert x.grad.abs().max().item() == 0


def test_without_gradients_no_gradient_is_computed() -> None:
    x, weight, targets = inputs()
    with torch.no_grad():
        total, _ = loss_sums(x, targets, Head(weight))
    assert not total.requires_grad


def test_cap_keeps_small_logits_and_bounds_large_ones() -> None:
    logits = torch.tensor([0.01, 1e6])
    torch.testing.assert_close(capped(logits, 15.0), torch.tensor([0.01, 15.0]), atol=1e-6, rtol=0)
    assert capped(logits, None) is logits


def test_autocast_computes_the_product_in_bfloat16() -> None:
    x, weight, targets = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss_sums(x, targets, Head(weight))
    total.backward()  # type: ignore[no-untyped-call]
    assert total.dtype == torch.float32
    assert weight.grad is not None
    exact = F.cross_entropy(x @ weight.T, targets, ignore_index=IGNORED, reduction="sum")
    assert total.item() == pytest.approx(exact.item(), rel=2e-2)
    assert weight.grad.dtype == torch.float32
