"""The weights that training begins with."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from configs.model import ModelConfig


def initialise(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill every parameter from one generator, in the order of their names in the model.

    Matrices come from N(0, init_std) and norms are 1, or all follow nanochat's rules.
    """
    generator = torch.Generator().manual_seed(seed)
    fill = _nanochat if config.nanochat else _normal
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fill(name, parameter, config, generator)


def _normal(name: str, parameter: Tensor, config: ModelConfig, generator: torch.Generator) -> None:
    if parameter.ndim >= 2:
        nn.init.normal_(parameter, std=config.init_std, generator=generator)
    else:
        nn.init.ones_(parameter)


def _nanochat(
    name: str, parameter: Tensor, config: ModelConfig, generator: torch.Generator
) -> None:
    """The rules of nanochat's JAX version, flaxchat: what each block adds begins at zero."""
    bound = math.sqrt(3 / config.d_model)  # the standard deviation of a LeCun initialisation
    kind = name.removesuffix(".weight").rsplit(".", 1)[-1]

    def uniform(low: float, high: float) -> Callable[[], object]:
        return lambda: nn.init.uniform_(parameter, low, high, generator=generator)

    rules: dict[str, Callable[[], object]] = {
        "embedding": lambda: nn.init.normal_(parameter, std=0.8, generator=generator),
        "value_embedding": uniform(-bound, bound),
        "up_proj": uniform(-0.4 * bound, 0.4 * bound),
        "o_proj": parameter.zero_,
        "down_proj": parameter.zero_,
        "value_gate": uniform(0, 0.02),
        "smear_gate": lambda: _lecun_normal(parameter, generator),
        "smear_scale": parameter.zero_,
        "backout_scale": lambda: parameter.fill_(0.2),
        "residual_scales": lambda: parameter.copy_(_falling(1.15, 1.05, config.num_layers)),
        "beginning_scales": lambda: parameter.copy_(_falling(0.20, 0.05, config.num_layers)),
    }
    other = uniform(-bound, bound) if parameter.ndim >= 2 else lambda: parameter.fill_(1)
    rules.get(kind, other)()
    if kind in ("embedding", "value_embedding"):
        parameter.copy_(parameter.bfloat16())  # the tables hold what bfloat16 can


def _lecun_normal(parameter: Tensor, generator: torch.Generator) -> None:
    """Normal, cut at two standard deviations and widened again to a variance of 1 / fan-in."""
    std = math.sqrt(1 / parameter.shape[1]) / 0.87962566103423978
    nn.init.trunc_normal_(parameter, 0, std, -2 * std, 2 * std, generator=generator)


def _falling(first: float, last: float, count: int) -> Tensor:
    """From `first` at layer 0 to `last` at the last layer."""
    return torch.linspace(first, last, count)
