"""Ranks that something else starts, each as `tally train`: torchrun, or what sets its variables.

Rank 0 prepares RUN as `tally train` does anywhere; the others wait for it to say how that went.
All ranks see RUN under the same path.
"""

import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from configs.train import LaunchConfig
from train.errors import TrainError
from train.launch import ON_CPU, choose_place

_SET = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Prepared(IntEnum):
    """How rank 0's preparation ended."""

    TRAIN = 0
    NOTHING_TO_DO = 1
    REFUSED = 2


def is_rank() -> bool:
    """Whether this process was started as one rank of several, by its environment."""
    return all(name in os.environ for name in _SET)


def world_size() -> int:
    """Ranks in all."""
    return int(os.environ["WORLD_SIZE"])


def settle_device(launch: LaunchConfig) -> None:
    """Have this rank compute on the CPU or its GPU; before torch is imported.

    Raises:
        TrainError: there are fewer GPUs here than ranks.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not choose_place(launch.model_copy(update={"ranks": here}), None, None).on_gpus:
        os.environ.update(ON_CPU)


def train_as_rank(run_dir: Path, stop_after: int | None, prepare: Callable[[], bool]) -> int:
    """Join the other ranks and train; returns the exit code (see train/worker.py).

    Args:
        run_dir: the RUN directory, or where it is to be.
        stop_after: steps after which to stop, counted from the beginning of the run.
        prepare: called on rank 0 alone; returns whether there is anything to do.

    Raises:
        TrainError: on rank 0, what `prepare` refuses; the others leave with 2.
    """
    from train.session import join_ranks, leave_ranks, told_by_first
    from train.worker import run_rank

    join_ranks()
    refusal: Exception | None = None
    state = Prepared.TRAIN
    if os.environ["RANK"] == "0":
        try:
            state = Prepared.TRAIN if prepare() else Prepared.NOTHING_TO_DO
        except Exception as error:
            refusal, state = error, Prepared.REFUSED
    state = Prepared(told_by_first(int(state)))
    if state == Prepared.TRAIN:
        return run_rank(run_dir, stop_after)
    leave_ranks()
    if refusal:
        raise refusal
    return 0 if state == Prepared.NOTHING_TO_DO else 2


def refuse_options(options: list[str]) -> None:
    """Refuse what would start ranks where ranks were started already.

    Raises:
        TrainError: names it.
    """
    if options:
        raise TrainError(
            f"{', '.join(options)}: RANK and WORLD_SIZE are set, so this is one rank of several "
            "that torchrun started; leave the option out, or unset them"
        )
