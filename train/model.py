"""One decoder: RMSNorm before each block, rotary positions, grouped-query attention, SwiGLU.

Tensor names carry their axes (Noam Shazeer's suffixes):

    B  rows of the batch        D  d_model, the residual stream      F  hidden width of the FFN
    T  positions of the row     N  query heads                       V  vocabulary
    H  width of one head        K  key and value heads

With the same weights it computes what transformers' `LlamaForCausalLM` computes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.model import ModelConfig


class RMSNorm(nn.Module):
    """Divides by the root mean square of the last axis and multiplies by a learned weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise in float32 and return the dtype of the input."""
        normed_BTD = F.rms_norm(x_BTD.float(), self.weight.shape, self.weight.float(), self.eps)
        return normed_BTD.to(x_BTD.dtype)


def rope_tables(
    num_positions: int, head_dim: int, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, float32 [num_positions, head_dim / 2] each.

    They are computed anew for each batch instead of being stored in the model: it is cheap, and a
    stored table would be cast to bfloat16 together with the weights.
    """
    pairs = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)
    frequencies = theta ** (-pairs / head_dim)
    positions = torch.arange(num_positions, device=device, dtype=torch.float32)
    angles = torch.outer(positions, frequencies)
    return angles.cos(), angles.sin()


def rotate(x_BNTH: Tensor, cos_TP: Tensor, sin_TP: Tensor) -> Tensor:
    """Turn the pairs (i, i + H/2) of every head by the angles of its position (split-half RoPE)."""
    first, second = x_BNTH.float().chunk(2, dim=-1)
    turned = (first * cos_TP - second * sin_TP, second * cos_TP + first * sin_TP)
    return torch.cat(turned, dim=-1).to(x_BNTH.dtype)


def document_mask(cu_seqlens: Tensor, rows: int, num_positions: int) -> Tensor:
    """What may attend to what within documents: bool [B, 1, T, T], causal.

    Args:
        cu_seqlens: int32 [num_documents + 1], where each document begins in the flattened rows,
            and the end.
        rows: B.
        num_positions: T.
    """
    size = rows * num_positions
    document_BT = torch.repeat_interleave(cu_seqlens.diff(), output_size=size).view(rows, -1)
    causal_TT = torch.ones(
        num_positions, num_positions, dtype=torch.bool, device=cu_seqlens.device
    ).tril()
    return (document_BT[:, None, :, None] == document_BT[:, None, None, :]) & causal_TT


class Attention(nn.Module):
    """Causal self-attention over the whole row, or within what a mask allows."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.grouped = config.num_kv_heads < config.num_heads
        query_width = config.num_heads * config.head_dim
        key_width = config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.d_model, query_width, bias=False)
        self.k_proj = nn.Linear(config.d_model, key_width, bias=False)
        self.v_proj = nn.Linear(config.d_model, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor, cos_TP: Tensor, sin_TP: Tensor, mask: Tensor | None) -> Tensor:
        """Mix positions; x_BTD is already normalised, mask is bool [B, 1, T, T]."""
        q_BNTH = rotate(self._heads(self.q_proj(x_BTD)), cos_TP, sin_TP)
        k_BKTH = rotate(self._heads(self.k_proj(x_BTD)), cos_TP, sin_TP)
        v_BKTH = self._heads(self.v_proj(x_BTD))
        mixed_BNTH = F.scaled_dot_product_attention(
            q_BNTH,
            k_BKTH,
            v_BKTH,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self.grouped,
        )
        return self.o_proj(mixed_BNTH.transpose(1, 2).flatten(2))

    def _heads(self, x_BTX: Tensor) -> Tensor:
        """Split the last axis into heads: [B, T, N * H] -> [B, N, T, H]."""
        rows, positions, _ = x_BTX.shape
        return x_BTX.view(rows, positions, -1, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.ffn_dim, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.ffn_dim, bias=False)
        self.down_proj = nn.Linear(config.ffn_dim, config.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform every position by itself; x_BTD is already normalised."""
        hidden_BTF = F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD)
        return self.down_proj(hidden_BTF)


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(self, x_BTD: Tensor, cos_TP: Tensor, sin_TP: Tensor, mask: Tensor | None) -> Tensor:
        """One layer of the residual stream."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cos_TP, sin_TP, mask)
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class Decoder(nn.Module):
    """Token ids to next-token logits.

    Parameters are named `embedding`, `layers.<i>.{attention_norm,attention.{q,k,v,o}_proj,
    ffn_norm,ffn.{gate,up,down}_proj}`, `norm` and, where the head is not tied, `head`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )

    def initialise(self, seed: int) -> None:
        """Draw every matrix from N(0, init_std) with a generator of its own; norms start at 1."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=self.config.init_std, generator=generator)
            else:
                nn.init.ones_(parameter)

    def forward(self, tokens_BT: Tensor, cu_seqlens: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of the token after each position.

        Args:
            tokens_BT: int64 [B, T].
            cu_seqlens: where documents begin, which then do not see each other (see
                `document_mask`). Positions run on: rotary angles matter by their differences only.
        """
        num_positions = tokens_BT.shape[1]
        assert num_positions <= self.config.max_seq_len, "row is longer than max_seq_len"
        tables = rope_tables(
            num_positions, self.config.head_dim, self.config.rope_theta, tokens_BT.device
        )
        mask = None if cu_seqlens is None else document_mask(cu_seqlens, *tokens_BT.shape)
        x_BTD = self.embedding(tokens_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD, *tables, mask)
        x_BTD = self.norm(x_BTD)
        head_VD = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(x_BTD, head_VD)

    def num_parameters(self, *, non_embedding: bool = False) -> int:
        """Parameters, the tied matrix counted once.

        Args:
            non_embedding: Leave out the embedding and the output head, the convention of the
                scaling-law papers.
        """
        total = sum(parameter.numel() for parameter in self.parameters())
        if not non_embedding:
            return total
        tables = 1 if self.head is None else 2
        return total - tables * self.config.vocab_size * self.config.d_model
