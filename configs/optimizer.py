"""The optimizer of a run: AdamW for everything, or Muon for the matrices of the blocks."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from configs.base import Section

Beta = Annotated[float, Field(ge=0, lt=1)]
MuonScale = Literal["tall", "aspect", "rms_0.18", "rms_0.2"]
"""Factor on the orthogonalised update of a matrix of R rows and C columns: sqrt(max(1, R / C))
(Jordan et al. 2024), sqrt(max(R, C) / min(R, C)), or 0.18 or 0.2 sqrt(max(R, C)), the latter of
which matches AdamW's root mean square (Liu et al. 2025, arXiv:2502.16982)."""

_KELLER_JORDAN = (3.4445, -4.7750, 2.0315)


class MuonConfig(Section):
    """Muon with Nesterov momentum for every matrix of the blocks."""

    lr: PositiveFloat
    """Peak learning rate of the matrices; the schedule multiplies it."""
    momentum: Beta = 0.95
    """Decay of the momentum."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled decay of the matrices."""
    scale: MuonScale = "tall"
    """What the orthogonalised update is multiplied by."""
    newton_schulz: Annotated[tuple[tuple[float, float, float], ...], Field(min_length=1)] = (
        _KELLER_JORDAN,
    ) * 5
    """Coefficients (a, b, c) of every step X <- a X + b (X X^T) X + c (X X^T)^2 X."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """In which these steps are computed."""


class OptimizerConfig(Section):
    """AdamW, clipping, and what happens to steps whose gradient is not finite."""

    lr: PositiveFloat
    """Peak learning rate of AdamW; the schedule multiplies it."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled decay of the parameters that `decay` selects."""
    decay: Literal["matrices", "matrices_but_embeddings", "all"] = "matrices"
    """Which parameters decay: those with two axes; those without embedding and head; all."""
    muon: MuonConfig | None = None
    """Takes the matrices of the blocks; embedding, head and vectors stay with AdamW."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Gradients longer than this (global L2 norm) are scaled down to it; null: never."""
    max_skipped_steps: NonNegativeInt = 10
    """Stop the run once more steps than this had a gradient that was not finite."""
