"""The gradient of one step over this rank's rows, and the proof of what the model was given."""

import numpy as np
import torch

from shards.ledger import digest_tokens, digest_windows
from train.collective import StepShare
from train.data import Rows
from train.loss import IGNORED
from train.session import Session


def forward_backward(session: Session, batch: list[Rows], stop: int) -> StepShare:
    """Accumulate the gradient of the mean loss over the targets of the global batch that count.

    Args:
        session: this rank.
        batch: its micro-batches.
        stop: 1 where this rank was asked to stop.

    Returns:
        This rank's part of the step.
    """
    engine, num_sources = session.engine, len(session.plan.sources)
    # DeepSpeed divides by the micro-batches, and averages over the ranks.
    weight = len(batch) * session.world_size / _counted_targets(session, batch)
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    windows = np.zeros(num_sources, dtype=np.int64)
    masked = windows_digest = tokens_digest = 0
    for number, rows in enumerate(batch):
        engine.set_gradient_accumulation_boundary(number == len(batch) - 1)
        total, cross_entropy = _loss_sums(session, rows) * weight
        engine.backward(total)
        if number < len(batch) - 1:
            engine.step()
        loss_sum += cross_entropy.detach().double() / len(batch)
        # Digested is the memory that was copied to the model, not the plan's opinion of it.
        windows += np.bincount(rows.source, minlength=num_sources)
        masked += rows.documents.masked_targets if rows.documents else 0
        windows_digest += digest_windows(rows.source, rows.window)
        tokens_digest += digest_tokens(rows.source, rows.window, rows.tokens)
    return StepShare(loss_sum.item(), windows, masked, windows_digest, tokens_digest, stop)


def _counted_targets(session: Session, batch: list[Rows]) -> int:
    """Targets of the global batch that count; all ranks have as many windows."""
    counted = sum(rows.tokens[:, 1:].size for rows in batch)
    if not session.plan.masks_targets:
        return counted * session.world_size
    counted -= sum(rows.documents.masked_targets for rows in batch if rows.documents)
    total = torch.tensor(counted, device=session.engine.device)
    torch.distributed.all_reduce(total)
    return max(int(total.item()), 1)


def _loss_sums(session: Session, rows: Rows) -> torch.Tensor:
    """What is minimised, and the cross entropy in it, summed over the targets that count."""
    device = session.engine.device
    # Two or four bytes a token travel to the device, and are widened there.
    tokens_BL = torch.from_numpy(rows.tokens).to(device).long()
    inputs_BT, targets_BT = tokens_BL[:, :-1], tokens_BL[:, 1:]
    cu_seqlens = None
    if rows.documents is not None:
        if rows.documents.cu_seqlens is not None:
            cu_seqlens = torch.from_numpy(rows.documents.cu_seqlens).to(device)
        counted_BT = torch.from_numpy(rows.documents.counted).to(device)
        targets_BT = targets_BT.masked_fill(~counted_BT, IGNORED)
    sums: torch.Tensor = session.engine(inputs_BT, cu_seqlens, targets_BT, session.config.z_loss)
    return sums
