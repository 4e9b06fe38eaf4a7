"""AdamW and its parameter groups."""

from collections.abc import Iterable

import torch
from torch import nn

from configs.train import OptimizerConfig

_EMBEDDINGS = ("embedding.", "head.")


def decays(name: str, parameter: torch.Tensor, config: OptimizerConfig) -> bool:
    """Whether weight decay applies to this parameter."""
    if config.decay == "all":
        return True
    if parameter.ndim < 2:
        return False
    return config.decay == "matrices" or not name.startswith(_EMBEDDINGS)


def build_optimizer(
    named_parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> torch.optim.AdamW:
    """AdamW with one group that decays and one that does not; empty groups are left out."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named_parameters:
        groups[decays(name, parameter, config)].append(parameter)
    rates = {True: config.weight_decay, False: 0.0}
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": rates[decaying]}
            for decaying, parameters in groups.items()
            if parameters
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
