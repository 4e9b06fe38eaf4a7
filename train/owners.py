"""Optimizer state shared out among ranks by whole parameters: ZeRO stage 1 that Muon can live with.

DeepSpeed's stages cut all parameters into flat pieces, but Muon needs whole matrices. Here every
parameter has one owner, which alone holds its moments and computes its update, and then sends the
result to the others (Rajbhandari et al. 2020, arXiv:1910.02054, stage 1, with parameters instead of
bytes as the unit). Gradients are averaged over all ranks before, so the result does not depend on
the number of ranks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.optimizer import OptimizerConfig
from train.optimizer import Named, by_muon


def owners(named_parameters: Named, config: OptimizerConfig, world_size: int) -> dict[str, int]:
    """The rank that updates each parameter; the costliest first, to the least loaded rank.

    The cost of Newton-Schulz grows as elements times the shorter side, that of AdamW as elements.
    """
    costs = {
        name: parameter.numel() * (min(parameter.shape) if by_muon(name, parameter, config) else 1)
        for name, parameter in named_parameters
    }
    load, owner = [0] * world_size, {}
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        owner[name] = load.index(min(load))
        load[owner[name]] += costs[name]
    return owner


Shares = Sequence[dict[str, nn.Parameter]]
"""The parameters that each rank updates, by name."""


def shares(model: nn.Module, config: OptimizerConfig, world_size: int) -> Shares:
    """The parameters of a model, dealt to the ranks."""
    named = dict(model.named_parameters())
    owner = owners(named.items(), config, world_size)
    return [{n: p for n, p in named.items() if owner[n] == rank} for rank in range(world_size)]


@torch.no_grad()
def exchange(dealt: Shares) -> None:
    """Send every parameter from the rank that has updated it to the others; on all ranks."""
    for source, parameters in enumerate(dealt):
        if parameters:
            _broadcast([parameter.data for parameter in parameters.values()], source)


def _broadcast(tensors: list[Tensor], source: int) -> None:
    """One message for all tensors of a rank."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.broadcast(flat, src=source)
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor))
