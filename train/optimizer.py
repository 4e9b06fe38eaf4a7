"""Which parameter is updated by what: Muon or AdamW, with or without decay, by which rank."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from configs.optimizer import OptimizerConfig
from train.muon import MuonAdamW

_EMBEDDINGS = ("embedding.", "head.")
Named = Iterable[tuple[str, nn.Parameter]]


def decays(name: str, parameter: torch.Tensor, config: OptimizerConfig) -> bool:
    """Whether AdamW's weight decay applies to this parameter."""
    if config.decay == "all":
        return True
    if parameter.ndim < 2:
        return False
    return config.decay == "matrices" or not name.startswith(_EMBEDDINGS)


def by_muon(name: str, parameter: torch.Tensor, config: OptimizerConfig) -> bool:
    """Whether Muon updates this parameter: the matrices of the blocks."""
    return config.muon is not None and parameter.ndim == 2 and name.startswith("layers.")


def build_optimizer(named_parameters: Named, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of these parameters; groups without any are left out.

    A group's `peak_lr` is what the schedule multiplies, see `set_lr`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        muon = by_muon(name, parameter, config)
        groups.setdefault((muon, muon or decays(name, parameter, config)), []).append(parameter)
    settings = [_group(*kind, groups[kind], config) for kind in sorted(groups, reverse=True)]
    adamw: dict[str, Any] = {"betas": config.betas, "eps": config.eps, "fused": True}
    if config.muon is None:
        return torch.optim.AdamW(settings, **adamw)
    return MuonAdamW(settings, config.muon, **adamw)


def _group(
    muon: bool, decaying: bool, parameters: list[nn.Parameter], config: OptimizerConfig
) -> dict[str, Any]:
    source = config.muon if muon and config.muon else config
    return {
        "params": parameters,
        "muon": muon,
        "lr": source.lr,
        "peak_lr": source.lr,
        "weight_decay": source.weight_decay if decaying else 0.0,
    }


def set_lr(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Give every group its peak rate times the schedule's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier
