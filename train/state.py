"""What a checkpoint holds of a running engine, and how it gets back in.

    model.safetensors            float32 weights under our names
    optimizer_00000.safetensors  <parameter>/<moment>, of the parameters a rank updates; what any
                                 number of ranks wrote, any number can read
    deepspeed/                   instead, where DeepSpeed holds shards: its files, for as many ranks
    rng_00000.safetensors, ...   random state of each rank

Everything of ours is safetensors and JSON. DeepSpeed's own files are pickles: they are loaded
only after their checksums were found equal to what COMPLETE says this trainer wrote.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_fp32_param
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.checkpoint import MODEL_FILE
from train.errors import TrainError

_ENGINE_FOLDER, _ENGINE_TAG = "deepspeed", "state"
Mapped = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def save_state(engine: Any, folder: Path, *, rank: int, zero_stage: int) -> None:
    """Write this rank's share of the state; called on all ranks."""
    weights = full_weights(engine, zero_stage)
    if rank == 0:
        save_file(weights, folder / MODEL_FILE)
    if zero_stage == 0 and (moments := _optimizer_tensors(engine, rank)):
        save_file(moments, folder / f"optimizer_{rank:05d}.safetensors")
    save_file(_random_state(), _rng_file(folder, rank))
    if zero_stage > 0:
        engine.save_checkpoint(str(folder / _ENGINE_FOLDER), tag=_ENGINE_TAG, save_latest=False)


def load_state(engine: Any, folder: Path, *, rank: int, same_ranks: bool, zero_stage: int) -> None:
    """Put a checkpoint into a fresh engine; called on all ranks.

    Raises:
        TrainError: the state is sharded for another number of ranks.
    """
    if zero_stage > 0:
        _load_engine_folder(engine, folder, same_ranks)
    else:
        engine.module.load_state_dict(load_file(folder / MODEL_FILE))
        for file in sorted(folder.glob("optimizer_*.safetensors")):
            _restore_optimizer(engine, load_file(file))
    if same_ranks:
        restore_random_state(folder, rank)


def inherit_optimizer(engine: Any, folder: Path, mapped: Mapped) -> None:
    """Take over the moments of another model's checkpoint, where they are whole (stage 0).

    Args:
        engine: with the new model.
        folder: the checkpoint.
        mapped: turns tensors named after the old model's parameters into those of the new one.
    """
    for file in sorted(folder.glob("optimizer_*.safetensors")):
        _restore_optimizer(engine, mapped(load_file(file)))


def full_weights(engine: Any, zero_stage: int) -> dict[str, Tensor]:
    """The float32 weights on the CPU, whole on every rank; called on all ranks."""
    named = engine.module.named_parameters()
    if zero_stage == 0:
        return {name: tensor.detach().float().cpu().contiguous() for name, tensor in named}
    whole = {name: safe_get_full_fp32_param(tensor) for name, tensor in named}
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in whole.items()}


def _load_engine_folder(engine: Any, folder: Path, same_ranks: bool) -> None:
    if not same_ranks:
        raise TrainError(
            f"{folder}: the optimizer state is sharded for another number of ranks, which "
            "DeepSpeed cannot re-deal; resume with as many ranks as wrote it, or train with "
            "engine.zero_stage 0, whose checkpoints fit any number"
        )
    path, _ = engine.load_checkpoint(str(folder / _ENGINE_FOLDER), tag=_ENGINE_TAG)
    if path is None:
        raise TrainError(f"{folder}: DeepSpeed found no state of its own in it")


def _optimizer_tensors(engine: Any, rank: int) -> dict[str, Tensor]:
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


def _restore_optimizer(engine: Any, tensors: dict[str, Tensor]) -> None:
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
    states = load_file(_rng_file(folder, rank))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
