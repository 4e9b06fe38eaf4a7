"""Watch the rank of the matrices that Muon updates.

Muon moves all directions of a matrix equally, so a direction that dies out shows in the weights
themselves: the smallest singular value falls away from the largest. Published runs watched this
ratio (Shard-40m); it is logged, and a matrix below the limit is named.
"""

from typing import TypedDict

import torch
from torch import Tensor

from configs.terminal import console
from configs.train import SentinelConfig
from train.optimizer import by_muon
from train.session import Session


class SingularValues(TypedDict):
    """The extreme singular values of a matrix."""

    smallest: float
    largest: float
    ratio: float
    """Smallest by largest; 0 for a matrix of zeros."""


def measure(session: Session) -> dict[str, SingularValues]:
    """Every matrix of Muon's by name; called on all ranks, each takes its share of the matrices.

    Matrices are whole on all ranks: Muon trains at DeepSpeed's stage 0 only.
    """
    named = session.engine.module.named_parameters()
    optimizer = session.config.optimizer
    matrices = {name: p.detach() for name, p in named if by_muon(name, p, optimizer)}
    found = torch.zeros(len(matrices), 2, dtype=torch.float64, device=session.engine.device)
    for number, matrix_RC in enumerate(matrices.values()):
        if number % session.world_size == session.rank:
            found[number] = extremes(matrix_RC)
    torch.distributed.all_reduce(found)
    rows = zip(matrices, found.tolist(), strict=True)
    return {name: _values(*row) for name, row in rows}


def _values(smallest: float, largest: float) -> SingularValues:
    ratio = smallest / largest if largest else 0.0
    return {"smallest": smallest, "largest": largest, "ratio": ratio}


def extremes(matrix_RC: Tensor) -> Tensor:
    """Smallest and largest singular value: float64 [2]."""
    values = torch.linalg.svdvals(matrix_RC.float()).double()
    return torch.stack([values[-1], values[0]])


def warn(found: dict[str, SingularValues], config: SentinelConfig, step: int) -> None:
    """Name the matrices that have lost rank, the worst first."""
    ratios = {name: values["ratio"] for name, values in found.items()}
    low = [(ratio, name) for name, ratio in ratios.items() if ratio < config.min_ratio]
    if low:
        worst = ", ".join(f"{name} ({ratio:.1e})" for ratio, name in sorted(low)[:5])
        console.print(
            f"warning: step {step}: the smallest singular value of {len(low)} of {len(found)} "
            f"matrices is below {config.min_ratio:.0e} of the largest: {worst}",
            highlight=False,
        )
