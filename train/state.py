"""What a checkpoint holds of a running engine, and how it gets back in.

    model.safetensors            float32 weights under our names
    optimizer_00000.safetensors  <parameter>/<moment>, of the parameters whose turn it is on a rank
    rng_00000.safetensors, ...   random state of each rank

Weights and moments are whole, so what any number of ranks wrote at any ZeRO stage, any number can
read at any other. Everything is safetensors and JSON: loading runs no code.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.checkpoint import MODEL_FILE
from train.errors import TrainError
from train.pieces import give_moments, take_moments, take_weights


def save_state(engine: Any, folder: Path, *, rank: int, world_size: int, zero_stage: int) -> None:
    """Write this rank's share of the state; called on all ranks.

    Args:
        engine: DeepSpeed's.
        folder: of the checkpoint; all ranks see it.
        rank: this process.
        world_size: processes in all.
        zero_stage: what DeepSpeed was told.
    """
    if zero_stage:
        weights, moments = take_weights(engine, rank), take_moments(engine, rank, world_size)
    else:
        weights, moments = _weights(engine, rank), _moments(engine, rank)
    if weights:
        save_file(weights, folder / MODEL_FILE)
    if moments:
        save_file(moments, folder / f"optimizer_{rank:05d}.safetensors")
    save_file(_random_state(), _rng_file(folder, rank))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The float32 weights of a checkpoint by name.

    Raises:
        TrainError: they are no safetensors.
    """
    return _tensors(folder / MODEL_FILE)


def read_moments(folder: Path) -> dict[str, Tensor]:
    """`<parameter>/<moment>` of all parameters; empty where no step was taken yet."""
    files = sorted(folder.glob("optimizer_*.safetensors"))
    return {name: tensor for file in files for name, tensor in _tensors(file).items()}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        said = f"{path}: no safetensors ({error}); put a checkpoint back that `tally train` wrote"
        raise TrainError(said) from None


def load_moments(engine: Any, moments: Mapping[str, Tensor], zero_stage: int) -> None:
    """Put moments into an engine that has taken no step yet; called on all ranks."""
    if zero_stage:
        give_moments(engine, moments)
    else:
        _restore_optimizer(engine, moments)


def _weights(engine: Any, rank: int) -> dict[str, Tensor]:
    if rank > 0:
        return {}
    named = engine.module.named_parameters()
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in named}


def _moments(engine: Any, rank: int) -> dict[str, Tensor]:
    """Moments and step counts, by parameter name, that this rank has to save."""
    state = engine.optimizer.state
    replicated = len(_updated(engine)) == len(list(engine.module.parameters()))
    if replicated and rank > 0:
        return {}
    return {
        f"{name}/{key}": value.detach().cpu().clone().contiguous()
        for name, parameter in _updated(engine).items()
        for key, value in state[parameter].items()
    }


def _updated(engine: Any) -> dict[str, Tensor]:
    """The parameters that this rank updates."""
    mine = {id(p) for group in engine.optimizer.param_groups for p in group["params"]}
    return {name: p for name, p in engine.module.named_parameters() if id(p) in mine}


def _restore_optimizer(engine: Any, tensors: Mapping[str, Tensor]) -> None:
    mine = _updated(engine)
    for name, tensor in tensors.items():
        parameter, key = name.rsplit("/", 1)
        if parameter in mine:
            like = mine[parameter]
            # As torch does: moments have the dtype of their parameter, the step count its own.
            dtype = tensor.dtype if key == "step" else like.dtype
            engine.optimizer.state[like][key] = tensor.to(like.device, dtype)


def _rng_file(folder: Path, rank: int) -> Path:
    return folder / f"rng_{rank:05d}.safetensors"


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_state(folder: Path, rank: int) -> None:
    """Go on with the random numbers of the rank that wrote the checkpoint."""
    states = _tensors(_rng_file(folder, rank))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
