"""Causal self-attention: grouped queries or a latent; windows, documents, rotary positions.

Axes are named as in `train.model`; R is the width of the latent, P its rotary channels, S all
positions that may be seen: those of the batch, behind those of the cache.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.model import ModelConfig
from train.kv_cache import KVCache
from train.layers import RMSNorm


class Rope(NamedTuple):
    """Cosines and sines of the rotary angles, float32 [T, width / 2] each."""

    cos_TP: Tensor
    sin_TP: Tensor
    neighbours: bool
    """The pairs are (2i, 2i + 1) instead of (i, i + width / 2)."""

    def rotate(self, x_BNTH: Tensor) -> Tensor:
        """Turn the pairs of every head by the angles of its position."""
        x_BNTH_float = x_BNTH.float()
        if self.neighbours:
            first, second = x_BNTH_float.view(*x_BNTH.shape[:-1], -1, 2).unbind(-1)
        else:
            first, second = x_BNTH_float.chunk(2, dim=-1)
        turned = (
            first * self.cos_TP - second * self.sin_TP,
            second * self.cos_TP + first * self.sin_TP,
        )
        joined = torch.stack(turned, -1).flatten(-2) if self.neighbours else torch.cat(turned, -1)
        return joined.to(x_BNTH.dtype)


def make_rope(
    config: ModelConfig, num_positions: int, device: torch.device, first: int = 0
) -> Rope:
    """The angles of every position, counted from `first`.

    They are computed anew for each batch instead of being stored in the model: it is cheap, and a
    stored table would be cast to bfloat16 together with the weights.
    """
    width = config.mla.rope_dim if config.mla else config.head_dim
    pairs = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    frequencies = config.rope_theta ** (-pairs / width)
    positions = torch.arange(first, first + num_positions, device=device, dtype=torch.float32)
    angles = torch.outer(positions, frequencies)
    sin_TP = -angles.sin() if config.rope_backwards else angles.sin()
    return Rope(angles.cos(), sin_TP, config.rope_pairs == "neighbours")


class Masks:
    """What may attend to what in a batch, for layers of every reach: bool [B or 1, 1, T, S].

    Args:
        tokens_BT: the batch; its shape and device.
        cu_seqlens: int32 [num_documents + 1], where each document begins in the flattened rows,
            and the end; documents then do not see each other. None: they do.
        cache: of the positions before; its padding is a document of its own.
    """

    def __init__(
        self, tokens_BT: Tensor, cu_seqlens: Tensor | None, cache: KVCache | None = None
    ) -> None:
        rows, num_tokens = tokens_BT.shape
        self.first = cache.num_positions if cache else 0
        self.num_positions = self.first + num_tokens
        self.device = tokens_BT.device
        self.document_BS: Tensor | None = None
        """Number of the document that each position is in."""
        if cu_seqlens is not None:
            numbers = torch.repeat_interleave(cu_seqlens.diff(), output_size=tokens_BT.numel())
            self.document_BS = numbers.view(rows, -1)
        if cache and cache.padding_B is not None:
            self.document_BS = self._positions() >= cache.padding_B[:, None]
        self._by_window: dict[int | None, Tensor | None] = {}

    def of(self, window: int | None) -> Tensor | None:
        """The mask of a layer that sees `window` positions; None where it is plainly causal."""
        if window is not None and window >= self.num_positions:
            window = None
        if window not in self._by_window:
            self._by_window[window] = self._make(window)
        return self._by_window[window]

    def begins(self) -> Tensor | None:
        """Which positions begin a document, the first of a row left out: bool [B, T or T - 1]."""
        if self.document_BS is None:
            return None
        first = max(self.first, 1)
        return self.document_BS[:, first:] != self.document_BS[:, first - 1 : -1]

    def _positions(self) -> Tensor:
        return torch.arange(self.num_positions, device=self.device)

    def _make(self, window: int | None) -> Tensor | None:
        one_sees_all = self.first == 0 or self.num_positions - self.first == 1
        if window is None and self.document_BS is None and one_sees_all:
            return None
        positions = self._positions()
        distance_TS = positions[self.first :, None] - positions
        seen = (distance_TS >= 0)[None, None]
        if window is not None:
            seen = seen & (distance_TS < window)
        if self.document_BS is not None:
            of_query = self.document_BS[:, None, self.first :, None]
            seen = seen & (of_query == self.document_BS[:, None, None])
        return seen


class Batch(NamedTuple):
    """What every layer needs to know of the batch."""

    tokens_BT: Tensor
    rope: Rope
    masks: Masks
    cache: KVCache | None


class Attention(nn.Module):
    """Self-attention with as many or fewer key heads than query heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.window = config, layer, config.window(layer)
        query_width = config.num_heads * config.head_dim
        key_width = config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.d_model, query_width, bias=False)
        self.k_proj = nn.Linear(config.d_model, key_width, bias=False)
        self.v_proj = nn.Linear(config.d_model, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.d_model, bias=False)
        if config.nanochat and config.has_value_table(layer):
            self.value_embedding = nn.Embedding(config.vocab_size, key_width)
            self.value_gate = nn.Linear(
                config.nanochat.gate_channels, config.num_kv_heads, bias=False
            )

    def forward(self, x_BTD: Tensor, batch: Batch) -> Tensor:
        """Mix positions; x_BTD is already normalised."""
        q_BNTH = self._normed(batch.rope.rotate(self._heads(self.q_proj(x_BTD))))
        k_BKTH = self._normed(batch.rope.rotate(self._heads(self.k_proj(x_BTD))))
        v_BKTH = self._heads(self._values(x_BTD, batch.tokens_BT))
        mixed_BNTH = attend(self, q_BNTH, k_BKTH, v_BKTH, batch)
        return self.o_proj(mixed_BNTH.transpose(1, 2).flatten(2))

    def _values(self, x_BTD: Tensor, tokens_BT: Tensor) -> Tensor:
        """Values [B, T, K * H]; with a table, 3 * sigmoid(gate) of the token's entry is added."""
        values = self.v_proj(x_BTD)
        if not hasattr(self, "value_gate"):
            return values
        gate_BTK = 3 * torch.sigmoid(self.value_gate(x_BTD[..., : self.value_gate.in_features]))
        entry_BTKH = self.value_embedding(tokens_BT).view(*gate_BTK.shape, self.config.head_dim)
        return values + (gate_BTK.unsqueeze(-1) * entry_BTKH).flatten(2).to(values.dtype)

    def _normed(self, x_BNTH: Tensor) -> Tensor:
        gain = self.config.qk_norm_gain
        if gain is None:
            return x_BNTH
        normed = F.rms_norm(x_BNTH.float(), x_BNTH.shape[-1:], eps=self.config.norm_eps)
        return (gain * normed).to(x_BNTH.dtype)

    def _heads(self, x_BTX: Tensor) -> Tensor:
        """Split the last axis into heads: [B, T, N * H] -> [B, N, T, H]."""
        rows, positions, _ = x_BTX.shape
        return x_BTX.view(rows, positions, -1, self.config.head_dim).transpose(1, 2)


class LatentAttention(nn.Module):
    """Multi-head latent attention; see `configs.model.MlaConfig`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.mla
        self.config, self.layer, self.window = config, layer, config.window(layer)
        width, latent, rotary = config.d_model, config.mla.latent_dim, config.mla.rope_dim
        heads = config.num_heads * config.head_dim
        self.q_proj = nn.Linear(width, heads + config.num_heads * rotary, bias=False)
        self.kv_down_proj = nn.Linear(width, latent, bias=False)
        self.kv_norm = RMSNorm(latent, config)
        self.k_rope_proj = nn.Linear(width, rotary, bias=False)
        self.k_up_proj = nn.Linear(latent, heads, bias=False)
        self.v_up_proj = nn.Linear(latent, heads, bias=False)
        self.o_proj = nn.Linear(heads, width, bias=False)

    def forward(self, x_BTD: Tensor, batch: Batch) -> Tensor:
        """Mix positions; x_BTD is already normalised."""
        width, rope = self.config.head_dim, batch.rope
        q_BNTX = self.q_proj(x_BTD).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)
        q_BNTX = torch.cat([q_BNTX[..., :width], rope.rotate(q_BNTX[..., width:])], -1)
        latent_BTR = self.kv_norm(self.kv_down_proj(x_BTD))
        k_BNTH, v_BNTH = (
            up(latent_BTR).unflatten(-1, (-1, width)).transpose(1, 2)
            for up in (self.k_up_proj, self.v_up_proj)
        )
        position_B1TP = rope.rotate(self.k_rope_proj(x_BTD).unsqueeze(1))
        k_BNTX = torch.cat([k_BNTH, position_B1TP.expand(-1, k_BNTH.shape[1], -1, -1)], -1)
        mixed_BNTH = attend(self, q_BNTX, k_BNTX, v_BNTH, batch)
        return self.o_proj(mixed_BNTH.transpose(1, 2).flatten(2))


def attend(
    layer: Attention | LatentAttention, q: Tensor, k: Tensor, v: Tensor, batch: Batch
) -> Tensor:
    """softmax(q k^T / sqrt(width of q)) v, causal, over the cache too: [B, N, T, H]."""
    if batch.cache is not None:
        k, v = batch.cache.extend(layer.layer, k, v)
    mask = batch.masks.of(layer.window)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None and q.shape[2] == k.shape[2],
        dropout_p=layer.config.dropout if layer.training else 0.0,
        enable_gqa=q.shape[1] != k.shape[1],
    )
