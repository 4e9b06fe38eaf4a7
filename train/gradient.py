"""The gradient of one step over this rank's rows, and the proof of what the model was given."""

import numpy as np
import torch
import torch.nn.functional as F

from shards.ledger import digest_tokens, digest_windows
from train.collective import StepShare
from train.data import Rows
from train.session import Session

_MASKED = -100  # targets that `cross_entropy` passes over


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
        loss = _summed_loss(session, rows) * weight
        engine.backward(loss)
        if number < len(batch) - 1:
            engine.step()
        loss_sum += loss.detach().double() / len(batch)
        # Digested is the memory that was copied to the model, not the plan's opinion of it.
        windows += np.bincount(rows.source, minlength=num_sources)
        masked += rows.documents.masked_targets if rows.documents else 0
        windows_digest += digest_windows(rows.source, rows.window)
        tokens_digest += digest_tokens(rows.source, rows.window, rows.tokens)
    return StepShare(loss_sum.item(), windows, masked, windows_digest, tokens_digest, stop)


def _counted_targets(session: Session, batch: list[Rows]) -> int:
    """Targets of the global batch that count; all ranks have as many windows."""
    counted = sum(rows.tokens[:, 1:].size for rows in batch)
    if not session.plan.document_mask:
        return counted * session.world_size
    counted -= sum(rows.documents.masked_targets for rows in batch if rows.documents)
    total = torch.tensor(counted, device=session.engine.device)
    torch.distributed.all_reduce(total)
    return max(int(total.item()), 1)


def _summed_loss(session: Session, rows: Rows) -> torch.Tensor:
    """Cross entropy in float32, summed over the targets that count."""
    device = session.engine.device
    # Two or four bytes a token travel to the device, and are widened there.
    tokens_BL = torch.from_numpy(rows.tokens).to(device).long()
    inputs_BT, targets_BT = tokens_BL[:, :-1], tokens_BL[:, 1:]
    if rows.documents is None:
        logits_BTV = session.engine(inputs_BT)
    else:
        cu_seqlens = torch.from_numpy(rows.documents.cu_seqlens).to(device)
        logits_BTV = session.engine(inputs_BT, cu_seqlens)
        counted_BT = torch.from_numpy(rows.documents.counted).to(device)
        targets_BT = targets_BT.masked_fill(~counted_BT, _MASKED)
    flat = logits_BTV.float().flatten(0, 1), targets_BT.flatten()
    return F.cross_entropy(*flat, ignore_index=_MASKED, reduction="sum")
