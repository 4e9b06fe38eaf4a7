"""Checkpoint directories: written whole or not at all, proved by checksums, newest good one found.

    RUN/checkpoints/step_000300/     state after 300 steps (steps 0..299 are done)
        model.safetensors            our float32 weights
        state.json                   step, plan and dataset ids, the model's shape
        config.yaml                  the resolved training config
        ...                          optimizer and random state: see train/state.py
        COMPLETE                     BLAKE3 of every other file; written last

A checkpoint is written under a temporary name and renamed, so a directory named `step_*` was
complete once; COMPLETE shows whether it still is.
"""

import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from configs.model import ModelConfig
from shards.atomic import sync, write_json_atomic
from shards.hashing import blake3_file
from shards.json_input import parse_json
from train.errors import TrainError

if TYPE_CHECKING:
    from train.model import Decoder

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
STATE_FILE = "state.json"
COMPLETE_FILE = "COMPLETE"
_WAY_OUT = "put a checkpoint back that `tally train` wrote"


class Checkpoint(NamedTuple):
    """A checkpoint directory and the number of steps done when it was written."""

    path: Path
    step: int


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return run_dir / "checkpoints" / f"step_{step:06d}"


def list_checkpoints(run_dir: Path) -> list[Checkpoint]:
    """All finished checkpoints of a run, oldest first; their checksums are not looked at."""
    folder = run_dir / "checkpoints"
    paths = [path for path in folder.glob("step_*") if (path / COMPLETE_FILE).is_file()]
    return sorted((Checkpoint(path, _step_of(path)) for path in paths), key=lambda c: c.step)


def _step_of(path: Path) -> int:
    digits = path.name.removeprefix("step_")
    if not digits.isdigit():
        raise TrainError(f"{path}: not a checkpoint's name (step_000300); move it away")
    return int(digits)


def temporary_path(run_dir: Path, step: int) -> Path:
    """Where the ranks write a checkpoint before it is finished."""
    final = checkpoint_path(run_dir, step)
    return final.with_name(f"tmp-{final.name}")


def begin(run_dir: Path, step: int) -> None:
    """Make the empty temporary directory of a checkpoint; one process does it for all ranks."""
    temporary = temporary_path(run_dir, step)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)


def finish(run_dir: Path, step: int) -> None:
    """Write COMPLETE, make everything durable, read it back and rename it into place.

    Raises:
        TrainError: what was read back is not what was written; older checkpoints are still there.
    """
    temporary, final = temporary_path(run_dir, step), checkpoint_path(run_dir, step)
    for file in _files(temporary):
        sync(file)
    sums = {str(file.relative_to(temporary)): blake3_file(file) for file in _files(temporary)}
    write_json_atomic(temporary / COMPLETE_FILE, {"blake3": sums})
    for directory in [path for path in temporary.rglob("*") if path.is_dir()]:
        sync(directory)
    _forget(_files(temporary))
    verify(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    sync(final.parent)


def _forget(files: list[Path]) -> None:
    """Drop files from the system's memory, so that reading them shows what the disk holds."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        for path in files:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.rglob("*") if path.is_file() and path.name != COMPLETE_FILE
    )


def verify(path: Path, hashed: Mapping[str, str] | None = None) -> None:
    """Check every file of a checkpoint against COMPLETE.

    Args:
        path: the checkpoint.
        hashed: BLAKE3 of its files by name, where they were read just now; else they are read.

    Raises:
        TrainError: a file is missing, superfluous or changed.
    """
    try:
        sums = dict(parse_json((path / COMPLETE_FILE).read_bytes(), COMPLETE_FILE)["blake3"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{path}: COMPLETE is missing or unreadable ({error})") from None
    found = {str(file.relative_to(path)) for file in _files(path)}
    if found != set(sums):
        wrong = ", ".join(sorted(found ^ set(sums)))
        raise TrainError(f"{path}: files missing or not written by the trainer: {wrong}")
    for name, expected in sums.items():
        if (hashed[name] if hashed else blake3_file(path / name)) != expected:
            raise TrainError(f"{path}: {name} differs from what was written (BLAKE3)")


def latest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are intact; broken ones are passed over, loudly."""
    for checkpoint in reversed(list_checkpoints(run_dir)):
        try:
            verify(checkpoint.path)
        except TrainError as error:
            logger.warning("broken checkpoint, falling back to the one before: %s", error)
            continue
        return checkpoint
    return None


def resume_point(run_dir: Path) -> Checkpoint | None:
    """Where a run goes on: its newest intact checkpoint, or its beginning where it never had one.

    Raises:
        TrainError: it has checkpoints, all of them broken; says how to begin again.
    """
    found, folder = latest_checkpoint(run_dir), run_dir / "checkpoints"
    broken = [path.name for kind in ("step_*", "broken-step_*") for path in folder.glob(kind)]
    if found is None and broken:
        raise TrainError(
            f"{folder}: none of the checkpoints is intact ({', '.join(sorted(broken))}), so the "
            "run would begin again from nothing; put a good copy of one back, or, to begin again, "
            f"move them away: mv {folder} {folder}-lost"
        )
    return found


def sweep(run_dir: Path, resumed_at: int) -> None:
    """Clear the way for a run that goes on after `resumed_at` steps.

    What killed runs left half-written is deleted; newer checkpoints, which were found broken, are
    set aside as `broken-step_*`, so that they neither count nor get in the way.
    """
    for leftover in (run_dir / "checkpoints").glob("tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for checkpoint in list_checkpoints(run_dir):
        if checkpoint.step > resumed_at:
            aside = checkpoint.path.with_name(f"broken-{checkpoint.path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.path.rename(aside)


def prune(run_dir: Path, keep: int, milestones: Collection[int] = ()) -> None:
    """Delete all but the newest `keep` checkpoints and those of the steps that are milestones."""
    for checkpoint in list_checkpoints(run_dir)[:-keep]:
        if checkpoint.step in milestones:
            continue
        # The marker goes first: a half-deleted directory must not pass for a checkpoint.
        (checkpoint.path / COMPLETE_FILE).unlink()
        shutil.rmtree(checkpoint.path)


def read_state(path: Path) -> dict[str, Any]:
    """state.json of a checkpoint.

    Raises:
        TrainError: it is no JSON object.
    """
    file = path / STATE_FILE
    state = parse_json(file.read_bytes(), str(file), TrainError)
    if not isinstance(state, dict):
        raise TrainError(f"{file}: {type(state).__name__} where an object belongs; {_WAY_OUT}")
    return state


def read_shape(path: Path) -> ModelConfig:
    """The model that a checkpoint says it is of.

    Raises:
        TrainError: none of ours.
    """
    try:
        return ModelConfig.model_validate(read_state(path).get("model"))
    except ValidationError as error:
        what = error.errors()[0]
        place = ".".join(["model", *map(str, what["loc"])])
        said = f"{path / STATE_FILE}: {place}: {what['msg']}; {_WAY_OUT}"
        raise TrainError(said) from None


def load_model(run_dir: Path, step: int | None = None) -> "tuple[Decoder, int]":
    """The trained model of a run, float32 on the CPU, and the steps it was trained for.

    Args:
        run_dir: the RUN directory.
        step: which checkpoint; the newest intact one by default.

    Raises:
        TrainError: there is no such checkpoint, or it is broken.
    """
    import torch  # here, because looking for checkpoints must not cost its seconds

    from train.model import Decoder
    from train.state import read_weights

    checkpoint = _find(run_dir, step)
    shape, weights = read_shape(checkpoint.path), read_weights(checkpoint.path)
    try:
        if shape.num_layers > len(weights):  # before so many are made
            raise RuntimeError(f"{len(weights)} tensors for {shape.num_layers} layers")
        with torch.device("meta"):
            model = Decoder(shape)
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, OverflowError, TypeError) as error:
        said = " ".join(str(error).split())[:300]
        raise TrainError(
            f"{checkpoint.path}: weights do not fit the model of {STATE_FILE} ({said}); {_WAY_OUT}"
        ) from None
    return model.eval(), checkpoint.step


def _find(run_dir: Path, step: int | None) -> Checkpoint:
    if step is None:
        checkpoint = latest_checkpoint(run_dir)
        if checkpoint is None:
            raise TrainError(f"{run_dir}: no intact checkpoint; train it first (tally train)")
        return checkpoint
    steps = [checkpoint.step for checkpoint in list_checkpoints(run_dir)]
    if step not in steps:
        raise TrainError(f"{run_dir}: no checkpoint of step {step}; there are {steps}")
    verify(checkpoint_path(run_dir, step))
    return Checkpoint(checkpoint_path(run_dir, step), step)
