"""Held-out loss during training, on a fixed set of windows per source."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from configs.train import ValidationConfig
from shards.masking import DocumentMask
from shards.masking import document_mask as find_documents
from shards.reader import Dataset, TokenArray, TokenStream


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
    document_mask: bool,
    micro_batch: int,
    rank: int,
    world_size: int,
) -> dict[str, float]:
    """Nats per target of every source that has a window; called on all ranks.

    Documents are masked as in training (see `shards.masking`).
    """
    engine.eval()
    losses = {}
    for name, stream in streams.items():
        count = min(config.windows, stream.num_windows(seq_len))
        nats = torch.zeros(2, dtype=torch.float64, device=engine.device)  # and targets
        for ids, counted in _batches(count, micro_batch, rank, world_size):
            tokens = stream.windows(ids, seq_len)
            documents = find_documents(tokens, stream.eos_id) if document_mask else None
            nats += _summed_loss(engine, tokens, documents, torch.from_numpy(counted))
        torch.distributed.all_reduce(nats)
        if count:
            losses[name] = (nats[0] / nats[1]).item()
    engine.train()
    return losses


def bits_per_byte(
    losses: Mapping[str, float], streams: Mapping[str, TokenStream]
) -> dict[str, float]:
    """Losses in bits per byte of text, by the bytes a token of each whole split.

    Of some windows of a split it is an estimate; `tally eval` counts all of it exactly.
    """
    facts = {name: streams[name].facts for name in losses}
    return {
        name: loss / math.log(2) * facts[name].tokens / facts[name].bytes_utf8
        for name, loss in losses.items()
        if facts[name].bytes_utf8
    }


def _batches(
    count: int, micro_batch: int, rank: int, world_size: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Windows of this rank, and which of them count.

    All ranks run the same number of batches, as sharded weights need; surplus rows weigh nothing.
    """
    for start in range(0, count, micro_batch * world_size):
        rows = start + rank * micro_batch + np.arange(micro_batch)
        yield np.where(rows < count, rows, 0), rows < count


def _summed_loss(
    engine: Any, tokens: TokenArray, documents: DocumentMask | None, rows: torch.Tensor
) -> torch.Tensor:
    """Loss summed over the targets that count, and their number: float64 [2]."""
    device = engine.device
    tokens_BL = torch.from_numpy(tokens).to(device).long()
    counted_BT = rows.to(device)[:, None].expand(-1, tokens.shape[1] - 1)
    borders = []
    if documents is not None:
        borders.append(torch.from_numpy(documents.cu_seqlens).to(device))
        counted_BT = counted_BT & torch.from_numpy(documents.counted).to(device)
    logits_BTV = engine(tokens_BL[:, :-1], *borders).float()
    losses_BT = F.cross_entropy(logits_BTV.transpose(1, 2), tokens_BL[:, 1:], reduction="none")
    return torch.stack([losses_BT[counted_BT].double().sum(), counted_BT.sum().double()])
