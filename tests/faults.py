"""Train runs while gradients are damaged: RUN:STEPS:RANK:KIND@STEP,STEP... see `tests.ranks`.

The damage is done where a defect would do it: in the gradient that backward computes for one matrix
on one rank, before anything averages, shards or clips it.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from train.loop import train
from train.session import Session, close_session, leave_ranks, open_session
from train.zero import accumulation

DAMAGE: dict[str, float] = {"nan": float("nan"), "inf": float("inf"), "huge": 1e30, "spike": 1e4}
"""What the gradient is multiplied by; an infinity instead makes NaN of zeros, as products do."""


def damage(session: Session, kind: str, steps: set[int]) -> None:
    """Multiply the gradient of a matrix in the given steps of this run."""
    calls = 0
    rows = session.plan.batch_windows(0)
    at_once = accumulation(rows, session.config.micro_batch, session.world_size)

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        step, calls = calls // at_once, calls + 1
        return gradient * DAMAGE[kind] if step in steps else gradient

    parameter: Any = session.engine.module.layers[0].ffn.down_proj.weight
    parameter.register_hook(hook)


def main() -> None:
    """Train what the command line names."""
    for item in sys.argv[1:]:
        run, steps, rank, fault = item.split(":")
        kind, at = fault.split("@")
        session = open_session(Path(run))
        if session.rank == int(rank):
            damage(session, kind, {int(step) for step in at.split(",")})
        train(session, int(steps), lambda: False)
        close_session(session)
    leave_ranks()


if __name__ == "__main__":
    main()
