"""Held-out loss during training, on a fixed set of windows per source."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from configs.train import ValidationConfig
from shards.reader import Dataset, TokenStream


def open_streams(
    datasets: Mapping[str, Dataset], names_in_dataset: Mapping[str, str], split: str
) -> dict[str, TokenStream]:
    """The held-out stream of every source."""
    return {
        name: dataset.stream(names_in_dataset[name], split) for name, dataset in datasets.items()
    }


@torch.no_grad()
def heldout_losses(
    engine: Any,
    streams: Mapping[str, TokenStream],
    config: ValidationConfig,
    *,
    seq_len: int,
    micro_batch: int,
    rank: int,
    world_size: int,
) -> dict[str, float]:
    """Nats per target of every source that has a window; called on all ranks."""
    engine.eval()
    losses = {}
    for name, stream in streams.items():
        count = min(config.windows, stream.num_windows(seq_len))
        if count:
            total = _summed_loss(engine, stream, count, seq_len, micro_batch, rank, world_size)
            losses[name] = total / (count * seq_len)
    engine.train()
    return losses


def _summed_loss(
    engine: Any,
    stream: TokenStream,
    count: int,
    seq_len: int,
    micro_batch: int,
    rank: int,
    world_size: int,
) -> float:
    """Loss summed over the first `count` windows, each computed by one rank.

    All ranks run the same number of batches, as sharded weights need; surplus rows weigh nothing.
    """
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    for start in range(0, count, micro_batch * world_size):
        rows = start + rank * micro_batch + np.arange(micro_batch)
        ids = np.where(rows < count, rows, 0)
        tokens = torch.from_numpy(stream.windows(ids, seq_len).astype(np.int64))
        tokens = tokens.to(engine.device)
        logits = engine(tokens[:, :-1]).float()
        losses = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        counted = torch.from_numpy(rows < count).to(engine.device)
        total += losses.double().sum(dim=1)[counted].sum()
    torch.distributed.all_reduce(total)
    return total.item()
