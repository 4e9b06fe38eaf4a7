"""Weights and moments taken whole from an engine that holds pieces of them, and put back.

From ZeRO stage 1 on DeepSpeed keeps AdamW's float32 weights and moments in flat pieces, cut by the
number of ranks. Its tensor-fragment functions (`deepspeed.utils`) read and write them by parameter,
so a checkpoint need not know how many ranks there were: no pickle, no conversion as for DeepSpeed's
universal checkpoints, which have the same content. All functions are called on all ranks.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")
_COUNT = "step"


def take_weights(engine: Any, rank: int) -> dict[str, Tensor]:
    """The float32 weights by name, on the CPU of rank 0; the other ranks get nothing."""
    found: dict[str, Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        whole = safe_get_full_fp32_param(parameter)
        if rank == 0:
            found[name] = _on_cpu(whole)
    return found


def take_moments(engine: Any, rank: int, world_size: int) -> dict[str, Tensor]:
    """`<parameter>/<moment>` of the parameters whose turn it is on this rank, on the CPU.

    Empty before the first optimizer step, which makes the moments.
    """
    counts = [state[_COUNT] for state in engine.optimizer.optimizer.state.values()]
    if not counts:
        return {}
    _link(engine.optimizer)
    found: dict[str, Tensor] = {}
    for number, (name, parameter) in enumerate(engine.module.named_parameters()):
        wholes = {key: safe_get_full_optimizer_state(parameter, key) for key in _MOMENTS}
        if number % world_size == rank:
            found |= {f"{name}/{key}": _on_cpu(whole) for key, whole in wholes.items()}
            found[f"{name}/{_COUNT}"] = counts[0].cpu().clone()
    return found


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().clone().contiguous()


def give_masters(engine: Any, weights: Mapping[str, Tensor]) -> None:
    """Put float32 weights by name into the pieces, of which a bfloat16 model is the rounding."""
    for name, parameter in engine.module.named_parameters():
        if _is_cut_up(parameter):
            safe_set_local_fp32_param(parameter, _own_part(parameter, weights[name]))
        else:
            safe_set_full_fp32_param(parameter, weights[name])


def give_moments(engine: Any, moments: Mapping[str, Tensor]) -> None:
    """Put moments, as `take_moments` names them, into an engine that has taken no step yet."""
    if not moments:
        return
    state = engine.optimizer.optimizer.state
    count = next(value for name, value in moments.items() if name.endswith(f"/{_COUNT}"))
    for piece in _pieces(engine.optimizer):
        # What torch would make at the first step; the count lies where the moments do.
        state[piece] = {_COUNT: count.to(piece.device, copy=True)}
        state[piece] |= {key: torch.zeros_like(piece, requires_grad=False) for key in _MOMENTS}
    _link(engine.optimizer)
    for name, parameter in engine.module.named_parameters():
        for key in _MOMENTS:
            _give(parameter, moments[f"{name}/{key}"], key)


def _link(optimizer: Any) -> None:
    """Tell parameters where their moments are.

    DeepSpeed 0.19.8 does so once, right after the first step of the first of several groups, when
    the other groups have no moments yet. Stage 3 looks them up instead.
    """
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _give(parameter: nn.Parameter, whole: Tensor, key: str) -> None:
    if _is_cut_up(parameter):
        safe_set_local_optimizer_state(parameter, _own_part(parameter, whole), key)
    else:
        safe_set_full_optimizer_state(parameter, whole, key)


def _is_cut_up(parameter: nn.Parameter) -> bool:
    """Whether every rank holds a part of this very parameter, as at stage 3."""
    return hasattr(parameter, "ds_id")


def _own_part(parameter: Any, whole: Tensor) -> Tensor:
    """This rank's part: the last ones are filled up with zeros, which DeepSpeed's `full` is not."""
    size, ranks = parameter.partition_numel(), parameter.ds_zero_partition_world_size
    filled = F.pad(whole.flatten(), (0, size * ranks - whole.numel()))
    return filled.narrow(0, size * parameter.ds_zero_partition_rank, size)


def _pieces(optimizer: Any) -> list[Tensor]:
    """The flat tensors that DeepSpeed gave our AdamW instead of the parameters."""
    names = (
        "fp32_partitioned_groups_flat",  # stage 3
        "single_partition_of_fp32_groups",  # stages 1 and 2
        "fp32_groups_flat_partition",  # stage 1 with bfloat16 weights
    )
    return next(list(getattr(optimizer, name)) for name in names if hasattr(optimizer, name))
