"""Cross entropy without ever holding all logits: a piece of positions at a time.

At 49,152 entries, 2,048 positions and 8 rows the float32 logits alone take 3.2 GB, their gradient
as much. Here every piece's gradient is computed right after its logits, which are then forgotten
(as in Liger Kernel, Hsu et al. 2024, arXiv:2410.10989), so no product is computed twice.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from train.flops import LOSS_PIECE

IGNORED = -100
"""A target that does not count."""


class Head(NamedTuple):
    """How the end of the residual stream becomes logits, and what the logits cost."""

    weight_VD: Tensor
    logit_cap: float | None = None
    """Logits z become cap * tanh(z / cap)."""
    z_loss: float = 0.0
    """Weight of the mean of logsumexp(logits)^2 (Chowdhery et al. 2022, arXiv:2204.02311)."""


def loss_sums(x_PD: Tensor, targets_P: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """The loss of positions, in float32, summed over the targets that count.

    Args:
        x_PD: normalised end of the residual stream of P positions.
        targets_P: int64; `IGNORED` does not count.
        head: output matrix, cap, z-loss.

    Returns:
        What is to be minimised, cross entropy and z-loss, and the cross entropy alone, without a
        gradient.
    """
    sums = _PieceByPiece.apply(x_PD, head.weight_VD, targets_P, head)  # type: ignore[no-untyped-call]
    total, cross_entropy = sums
    return total, cross_entropy


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits z as cap * tanh(z / cap), in float32; as they are without a cap."""
    return logits if cap is None else cap * torch.tanh(logits.float() / cap)


class _PieceByPiece(torch.autograd.Function):
    """Computes the gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any, x_PD: Tensor, weight_VD: Tensor, targets_P: Tensor, head: Head
    ) -> tuple[Tensor, Tensor]:
        sums = torch.zeros(2, device=x_PD.device)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        x_grad_PD = torch.empty_like(x_PD) if wanted else None
        weight_grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if wanted else None
        for start in range(0, len(x_PD), LOSS_PIECE):
            here = slice(start, start + LOSS_PIECE)
            with torch.set_grad_enabled(wanted):
                x, weight = x_PD[here].detach(), weight_VD.detach()
                x.requires_grad_(wanted), weight.requires_grad_(wanted)
                total, cross_entropy = _piece(x, targets_P[here], head._replace(weight_VD=weight))
            sums += torch.stack([total.detach(), cross_entropy.detach()])
            if x_grad_PD is not None and weight_grad_VD is not None:
                x_grad_PD[here], weight_grad = torch.autograd.grad(total, (x, weight))
                weight_grad_VD += weight_grad
        ctx.save_for_backward(x_grad_PD, weight_grad_VD)
        ctx.weight_dtype = weight_VD.dtype
        return sums[0], sums[1].detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_grad_PD, weight_grad_VD = ctx.saved_tensors
        return x_grad_PD * grads[0], (weight_grad_VD * grads[0]).to(ctx.weight_dtype), None, None


def _piece(x_PD: Tensor, targets_P: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    logits_PV = capped(F.linear(x_PD, head.weight_VD).float(), head.logit_cap)
    cross_entropy = F.cross_entropy(logits_PV, targets_P, ignore_index=IGNORED, reduction="sum")
    if not head.z_loss:
        return cross_entropy, cross_entropy
    # Filled, not selected: how many count is known to a GPU only, and asking it would wait for it.
    log_sum_P = logits_PV.logsumexp(-1).masked_fill(targets_P == IGNORED, 0)
    return cross_entropy + head.z_loss * log_sum_P.square().sum(), cross_entropy


def target_logprobs(x_PD: Tensor, targets_P: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """How likely the targets are, a piece of positions at a time, without a gradient.

    Args:
        x_PD: normalised end of the residual stream of P positions.
        targets_P: int64.
        head: output matrix and cap.

    Returns:
        Log-probability of every target in nats, float32 [P], and whether it is the likeliest token,
        bool [P].
    """
    logprobs, likeliest = [], []
    pairs = zip(x_PD.split(LOSS_PIECE), targets_P.split(LOSS_PIECE), strict=True)  # type: ignore[no-untyped-call]
    for x, targets in pairs:
        logits_PV = capped(F.linear(x, head.weight_VD), head.logit_cap).float()
        logprobs.append(-F.cross_entropy(logits_PV, targets, reduction="none"))
        likeliest.append(logits_PV.argmax(-1) == targets)
    return torch.cat(logprobs), torch.cat(likeliest)
