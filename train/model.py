"""One decoder whose switches (`configs.model`) cover the published recipes.

Tensor names carry their axes (Noam Shazeer's suffixes):

    B  rows of the batch        D  d_model, the residual stream      F  hidden width of the FFN
    T  positions of the row     N  query heads                       V  vocabulary
    H  width of one head        K  key and value heads

Without any switch it computes, with the same weights, what transformers' `LlamaForCausalLM` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.model import ModelConfig
from train.attention import Attention, Batch, LatentAttention, Masks, make_rope
from train.initial import initialise
from train.kv_cache import KVCache
from train.layers import FeedForward, RMSNorm
from train.loss import Head, capped, loss_sums


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        kind = LatentAttention if config.mla else Attention
        self.attention_norm = RMSNorm(config.d_model, config)
        self.attention = kind(config, layer)
        self.ffn_norm = RMSNorm(config.d_model, config)
        self.ffn = FeedForward(config)

    def forward(self, x_BTD: Tensor, batch: Batch) -> Tensor:
        """One layer of the residual stream."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), batch)
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class Nanochat(nn.Module):
    """nanochat's scalars and gates on the residual stream; see `configs.model.NanochatConfig`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.nanochat
        self.residual_scales = nn.Parameter(torch.ones(config.num_layers))
        self.beginning_scales = nn.Parameter(torch.zeros(config.num_layers))
        self.smear_gate = nn.Linear(config.nanochat.smear_channels, 1, bias=False)
        self.smear_scale = nn.Parameter(torch.zeros(1))
        self.backout_scale = nn.Parameter(torch.zeros(1))

    def smear(self, x_BTD: Tensor, batch: Batch) -> Tensor:
        """Add a gated share of the token before; the first of a row or document has none."""
        before = batch.cache.last_embedding(x_BTD) if batch.cache else None
        x_BTD = x_BTD if before is None else torch.cat([before, x_BTD], dim=1)
        gate_BT1 = torch.sigmoid(self.smear_gate(x_BTD[:, 1:, : self.smear_gate.in_features]))
        share = self.smear_scale * gate_BT1 * x_BTD[:, :-1]
        begins = batch.masks.begins()
        if begins is not None:
            share = share.masked_fill(begins.unsqueeze(-1), 0)
        smeared = x_BTD[:, 1:] + share.to(x_BTD.dtype)
        return smeared if before is not None else torch.cat([x_BTD[:, :1], smeared], dim=1)

    def mix(self, layer: int, x_BTD: Tensor, beginning_BTD: Tensor) -> Tensor:
        """The input of a layer: the stream and its beginning, each scaled."""
        return self.residual_scales[layer] * x_BTD + self.beginning_scales[layer] * beginning_BTD


class Decoder(nn.Module):
    """Token ids to next-token logits.

    Parameters are named `embedding`, `layers.<i>.{attention_norm,attention.{q,k,v,o}_proj,
    ffn_norm,ffn.{gate,up,down}_proj}`, `norm` and, where the head is not tied, `head`; the switches
    add theirs (see `train.attention` and `Nanochat`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.embedding_norm = RMSNorm(config.d_model, config) if config.nanochat else None
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.d_model, config)
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.nanochat = Nanochat(config) if config.nanochat else None

    def initialise(self, seed: int) -> None:
        """Draw the weights with a generator of their own (`train.initial`)."""
        initialise(self, self.config, seed)

    def forward(
        self,
        tokens_BT: Tensor,
        cu_seqlens: Tensor | None = None,
        targets_BT: Tensor | None = None,
        z_loss: float = 0.0,
    ) -> Tensor:
        """Logits [B, T, V] of the token after each position, or their loss.

        Args:
            tokens_BT: int64 [B, T].
            cu_seqlens: where documents begin, which then do not see each other (see
                `train.attention.Masks`). Positions run on: only differences of angles matter.
            targets_BT: the tokens that follow; those that are `train.loss.IGNORED` do not count.
                The result is then float32 [2], sums over the others: what is to be minimised, and
                the cross entropy in it, without a gradient.
            z_loss: weight of the z-loss (see `train.loss`) in what is to be minimised.
        """
        x_BTD = self.hidden(tokens_BT, cu_seqlens)
        if targets_BT is None:
            return self.logits(x_BTD)
        head = self.output_head(z_loss)
        return torch.stack(loss_sums(x_BTD.flatten(0, 1), targets_BT.flatten(), head))

    def hidden(
        self, tokens_BT: Tensor, cu_seqlens: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """The normalised end of the residual stream, [B, T, D].

        Args:
            tokens_BT: int64 [B, T].
            cu_seqlens: as in `forward`; not with a cache.
            cache: what was read before these tokens; they are added to it.
        """
        first, num_tokens = cache.num_positions if cache else 0, tokens_BT.shape[1]
        assert first + num_tokens <= self.config.max_seq_len, "row is longer than max_seq_len"
        rope = make_rope(self.config, num_tokens, tokens_BT.device, first)
        batch = Batch(tokens_BT, rope, Masks(tokens_BT, cu_seqlens, cache), cache)
        x_BTD = F.dropout(self.embedding(tokens_BT), self.config.dropout, self.training)
        x_BTD = self.norm(self._blocks(x_BTD, batch))
        if cache:
            cache.advance(num_tokens)
        return x_BTD

    def output_head(self, z_loss: float = 0.0) -> Head:
        """What turns the end of the residual stream into logits."""
        weight_VD = self.embedding.weight if self.head is None else self.head.weight
        return Head(weight_VD, self.config.logit_cap, z_loss)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Logits [..., V] of the normalised end of the residual stream."""
        head = self.output_head()
        return capped(F.linear(x_BTD, head.weight_VD), head.logit_cap)

    def _blocks(self, x_BTD: Tensor, batch: Batch) -> Tensor:
        """The residual stream from the embedding to the last layer."""
        if self.nanochat is not None and self.embedding_norm is not None:
            return self._nanochat_blocks(self.nanochat, self.embedding_norm(x_BTD), batch)
        for layer in self.layers:
            x_BTD = layer(x_BTD, batch)
        return x_BTD

    def _nanochat_blocks(self, extra: Nanochat, x_BTD: Tensor, batch: Batch) -> Tensor:
        x_BTD = beginning_BTD = middle_BTD = extra.smear(x_BTD, batch)
        for number, layer in enumerate(self.layers):
            x_BTD = layer(extra.mix(number, x_BTD, beginning_BTD), batch)
            if number == self.config.num_layers // 2:
                middle_BTD = x_BTD
        return x_BTD - extra.backout_scale * middle_BTD

    def num_parameters(self, *, non_embedding: bool = False) -> int:
        """Parameters, the tied matrix counted once.

        Args:
            non_embedding: Leave out all tables of the vocabulary and the output head, the
                convention of the scaling-law papers.
        """
        named = self.named_parameters()
        tables = ("embedding.weight", "value_embedding.weight", "head.weight")
        return sum(p.numel() for name, p in named if not (non_embedding and name.endswith(tables)))
