"""When memory runs out: what the plan estimated, and which settings would fit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.train import TrainConfig
from train.errors import OutOfMemoryError, TrainError
from train.flops import memory_gib
from train.run_data import run_plan
from train.run_dir import read_config
from train.segments import segments
from train.zero import refuse_unsound

_HEADROOM = 0.85
"""Of what was too little: what a suggestion may need, by the same estimate."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that a GPU's or the machine's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def memory_explained(run_dir: Path) -> Iterator[None]:
    """Where memory runs out in the block, say what a run needs it for.

    Raises:
        OutOfMemoryError: instead of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        config, plan = read_config(run_dir), run_plan(run_dir)
        longest = max(phase.seq_len or plan.seq_len for phase in plan.phases)
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        # The segment that needs the most: a run may grow.
        largest = max(
            (segment.config for segment in segments(config, plan)),
            key=lambda config: sum(memory_gib(config, longest, world_size).values()),
        )
        raise explain(error, largest, longest, world_size) from None


def explain(
    error: BaseException, config: TrainConfig, seq_len: int, world_size: int
) -> OutOfMemoryError:
    """The message: what ran out, the plan's table, and settings that would fit.

    Args:
        error: torch's.
        config: the run.
        seq_len: of the longest windows.
        world_size: ranks.
    """
    capacity = capacity_gib()
    parts = memory_gib(config, seq_len, world_size)
    table = "\n".join(f"  {name:24s} {size:8.2f}" for name, size in parts.items())
    total = sum(parts.values())
    fitting = list(suggestions(config, seq_len, world_size, min(capacity, total) * _HEADROOM))
    ways = "\n".join(f"  {settings}: {size:.2f} GiB" for settings, size in fitting)
    ways = f"by the same estimate these would fit:\n{ways}" if ways else "a smaller model is needed"
    first = (str(error).strip() or "no message").splitlines()[0]
    return OutOfMemoryError(
        f"out of memory: {first}\n"
        f"memory of a rank by the plan, GiB, of {capacity:.1f} there are:\n{table}\n"
        f"  {'in all':24s} {total:8.2f}\n"
        f"{ways}\nthe run goes on from its last checkpoint; micro_batch and engine.zero_stage may "
        "change on resume, engine.precision needs a new run"
    )


def capacity_gib() -> float:
    """Memory of this rank's GPU, or of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def suggestions(
    config: TrainConfig, seq_len: int, world_size: int, limit_gib: float
) -> Iterator[tuple[str, float]]:
    """Settings that need at most `limit_gib`: a smaller micro_batch, bf16, a higher ZeRO stage."""
    for changed in _candidates(config, world_size):
        size = sum(memory_gib(_with(config, changed), seq_len, world_size).values())
        if size <= limit_gib:
            yield " ".join(f"{key}={value}" for key, value in changed.items()), size


def _candidates(config: TrainConfig, world_size: int) -> Iterator[dict[str, Any]]:
    micro_batch = config.micro_batch
    while micro_batch % 2 == 0:
        micro_batch //= 2
        yield {"micro_batch": micro_batch}
    if config.engine.precision == "fp32":
        yield {"engine.precision": "bf16_autocast"}
        yield {"engine.precision": "bf16_autocast", "micro_batch": micro_batch}
    for stage in range(config.engine.zero_stage + 1, 4 if world_size > 1 else 0):
        changed = {"engine.zero_stage": stage}
        try:
            refuse_unsound(_with(config, changed))
        except TrainError:
            continue
        yield changed
        yield changed | {"micro_batch": micro_batch}


def _with(config: TrainConfig, changed: dict[str, Any]) -> TrainConfig:
    values = config.model_dump()
    for key, value in changed.items():
        section, _, name = key.rpartition(".")
        (values[section] if section else values)[name] = value
    return TrainConfig.model_validate(values)
