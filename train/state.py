"""What a checkpoint holds of a running engine, and how it gets back in.

    model.safetensors            float32 weights under our names
    optimizer.safetensors        stage 0: <parameter>/<moment>, readable by any number of ranks
    deepspeed/                   stages 1-3: DeepSpeed's own files, for the same number of ranks
    rng_00000.safetensors, ...   random state of each rank

Everything of ours is safetensors and JSON. DeepSpeed's own files are pickles: they are loaded
only after their checksums were found equal to what COMPLETE says this trainer wrote.
"""

from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_fp32_param
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.checkpoint import MODEL_FILE
from train.errors import TrainError

OPTIMIZER_FILE = "optimizer.safetensors"
_ENGINE_FOLDER, _ENGINE_TAG = "deepspeed", "state"


def save_state(engine: Any, folder: Path, *, rank: int, zero_stage: int) -> None:
    """Write this rank's share of the state; called on all ranks."""
    weights = full_weights(engine, zero_stage)
    if rank == 0:
        save_file(weights, folder / MODEL_FILE)
        if zero_stage == 0:
            save_file(_optimizer_tensors(engine), folder / OPTIMIZER_FILE)
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
        _restore_optimizer(engine, load_file(folder / OPTIMIZER_FILE))
    if same_ranks:
        _restore_random_state(load_file(_rng_file(folder, rank)))


def full_weights(engine: Any, zero_stage: int) -> dict[str, Tensor]:
    """The float32 weights on the CPU, whole on every rank; called on all ranks."""
    named = engine.module.named_parameters()
    if zero_stage == 0:
        return {name: tensor.detach().cpu().contiguous() for name, tensor in named}
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


def _optimizer_tensors(engine: Any) -> dict[str, Tensor]:
    """Adam's moments and step counts by parameter name."""
    state = engine.optimizer.state
    return {
        f"{name}/{key}": value.detach().cpu().clone().contiguous()
        for name, parameter in engine.module.named_parameters()
        for key, value in state[parameter].items()
    }


def _restore_optimizer(engine: Any, tensors: dict[str, Tensor]) -> None:
    parameters = dict(engine.module.named_parameters())
    for name, tensor in tensors.items():
        parameter, key = name.rsplit("/", 1)
        place = parameters[parameter]
        engine.optimizer.state[place][key] = tensor.to(place.device)


def _rng_file(folder: Path, rank: int) -> Path:
    return folder / f"rng_{rank:05d}.safetensors"


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
