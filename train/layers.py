"""The parts of a block that look at one position at a time; axes as in `train.model`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.model import ModelConfig


class RMSNorm(nn.Module):
    """Divides by the root mean square of the last axis; multiplies by a learned weight, if any."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.shape, self.eps = (width,), config.norm_eps
        self.weight: nn.Parameter | None
        weight = nn.Parameter(torch.ones(self.shape)) if config.norm_weights else None
        self.register_parameter("weight", weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise in float32 and return the dtype of the input."""
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x_BTD.float(), self.shape, weight, self.eps).to(x_BTD.dtype)


class FeedForward(nn.Module):
    """SwiGLU, or one hidden layer with GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated = config.ffn == "swiglu"
        if self.gated:
            self.gate_proj = nn.Linear(config.d_model, config.ffn_dim, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.ffn_dim, bias=False)
        self.down_proj = nn.Linear(config.ffn_dim, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform every position by itself; x_BTD is already normalised."""
        hidden_BTF = self.up_proj(x_BTD)
        if self.gated:
            return self.down_proj(F.silu(self.gate_proj(x_BTD)) * hidden_BTF)
        return self.down_proj(F.gelu(hidden_BTF, approximate="tanh"))
