"""Muon for matrices with AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a
matrix by the nearest matrix with orthogonal rows, up to the error of a few Newton-Schulz steps.
`torch.optim.Muon` knows one triple of coefficients and two scales; published recipes use more.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from configs.optimizer import MuonConfig, MuonScale

Coefficients = Sequence[tuple[float, float, float]]
_TINY = 1e-7
MOMENTUM = "momentum_buffer"
"""Key of a matrix' state; AdamW's keys are torch's own."""


def orthogonalise(matrix_RC: Tensor, steps: Coefficients, dtype: torch.dtype) -> Tensor:
    """Newton-Schulz iteration towards U V^T, where U S V^T is the matrix: [R, C] in `dtype`.

    Args:
        matrix_RC: any matrix; a matrix of zeros stays one.
        steps: one triple (a, b, c) a step: X <- a X + (b X X^T + c (X X^T)^2) X.
        dtype: in which it is computed.
    """
    tall = matrix_RC.size(0) > matrix_RC.size(1)
    short_MN = (matrix_RC.T if tall else matrix_RC).to(dtype)
    # The Frobenius norm bounds the largest singular value, so all start at 1 or below.
    short_MN = short_MN / (short_MN.norm() + _TINY)
    for a, b, c in steps:
        gram_MM = short_MN @ short_MN.T
        polynomial_MM = torch.addmm(gram_MM, gram_MM, gram_MM, beta=b, alpha=c)
        short_MN = torch.addmm(short_MN, polynomial_MM, short_MN, beta=a)
    return short_MN.T if tall else short_MN


def update_scale(rows: int, columns: int, scale: MuonScale) -> float:
    """What the orthogonalised update of a matrix is multiplied by; see `MuonScale`."""
    longest, shortest = max(rows, columns), min(rows, columns)
    match scale:
        case "tall":
            return math.sqrt(max(1.0, rows / columns))
        case "aspect":
            return math.sqrt(longest / shortest)
        case "rms_0.18":
            return 0.18 * math.sqrt(longest)
        case "rms_0.2":
            return 0.2 * math.sqrt(longest)


class MuonAdamW(torch.optim.AdamW):
    """Muon for the groups with `muon: True`, torch's AdamW for the others.

    A parameter without gradient is passed over, as in torch.

    Args:
        groups: torch's parameter groups; each says `muon`, and `lr` and `weight_decay` of its own.
        muon: momentum, Newton-Schulz steps and scale.
        **adamw: torch's settings of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], muon: MuonConfig, **adamw: Any) -> None:
        super().__init__(groups, **adamw)
        self.muon = muon

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "Muon needs no second evaluation of the loss"
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._muon_step(group)

    def _muon_step(self, group: dict[str, Any]) -> None:
        for parameter_RC in group["params"]:
            if parameter_RC.grad is None:
                continue
            update_RC = self._update(parameter_RC, parameter_RC.grad)
            # Decoupled decay first, as in torch's Muon and AdamW.
            parameter_RC.mul_(1 - group["lr"] * group["weight_decay"])
            parameter_RC.add_(update_RC, alpha=-group["lr"])

    def _update(self, parameter_RC: Tensor, gradient_RC: Tensor) -> Tensor:
        """The scaled direction, in the dtype of the parameter; adds the gradient to the momentum.

        Whether momentum is a sum or a mean makes no difference: the iteration normalises it.
        """
        state = self.state[parameter_RC]
        if MOMENTUM not in state:
            state[MOMENTUM] = torch.zeros_like(gradient_RC)
        momentum_RC = state[MOMENTUM].lerp_(gradient_RC, 1 - self.muon.momentum)
        nesterov_RC = gradient_RC.lerp(momentum_RC, self.muon.momentum)
        dtype = torch.bfloat16 if self.muon.precision == "bf16" else torch.float32
        direction_RC = orthogonalise(nesterov_RC, self.muon.newton_schulz, dtype)
        rows, columns = parameter_RC.shape
        return direction_RC.to(parameter_RC.dtype) * update_scale(rows, columns, self.muon.scale)
