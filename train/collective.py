"""What the ranks add up after every step: losses, digests, counts, and who wants to stop."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from shards.ledger import DIGEST_MODULUS

_LIMB_BITS = 32
_NUM_LIMBS = 4


class StepShare(NamedTuple):
    """One rank's part of a step, and after `add_up` the whole of it."""

    loss: float
    """Sum over micro-batches of their mean loss."""
    windows: npt.NDArray[np.int64]
    """Windows fed, per source."""
    masked_targets: int
    """Targets that did not count in the loss."""
    windows_digest: int
    tokens_digest: int
    stop: int
    """Ranks that were asked to stop."""


def add_up(share: StepShare, device: torch.device) -> StepShare:
    """Sum of all ranks' shares; called on all ranks. Digests are added modulo 2**128."""
    loss = torch.tensor(share.loss, dtype=torch.float64, device=device)
    integers = [
        *_limbs(share.windows_digest),
        *_limbs(share.tokens_digest),
        share.stop,
        share.masked_targets,
        *share.windows.tolist(),
    ]
    counts = torch.tensor(integers, dtype=torch.int64, device=device)
    torch.distributed.all_reduce(loss)
    torch.distributed.all_reduce(counts)
    summed = counts.tolist()
    return StepShare(
        loss=loss.item(),
        windows=np.array(summed[2 * _NUM_LIMBS + 2 :], dtype=np.int64),
        masked_targets=summed[2 * _NUM_LIMBS + 1],
        windows_digest=_number(summed[:_NUM_LIMBS]),
        tokens_digest=_number(summed[_NUM_LIMBS : 2 * _NUM_LIMBS]),
        stop=summed[2 * _NUM_LIMBS],
    )


def _limbs(number: int) -> list[int]:
    """A 128-bit number as 32-bit limbs, lowest first: their sums over ranks fit int64."""
    mask = (1 << _LIMB_BITS) - 1
    return [number >> (_LIMB_BITS * place) & mask for place in range(_NUM_LIMBS)]


def _number(limbs: list[int]) -> int:
    return sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(limbs)) % DIGEST_MODULUS
