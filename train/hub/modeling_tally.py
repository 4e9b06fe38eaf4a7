"""A decoder trained with TallyLM, for transformers: this one file is all the code it needs.

    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

Tensor names carry their axes:

    B  rows of the batch      D  hidden_size          V  vocabulary
    T  new positions          N  query heads          R  width of the latent (MLA)
    S  all positions so far   K  key and value heads  P  rotary channels beside each head (MLA)
                              H  width of one head

Without any of the config's switches the model is Llama. Rows may be padded on the left, if
`attention_mask` says so: only differences of positions count, so padding changes nothing.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast


class TallyConfig(PretrainedConfig):
    """Shape and switches of the decoder.

    Args:
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: hidden width of the feed-forward block.
        num_hidden_layers: decoder blocks.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads.
        head_dim: width of one head.
        max_position_embeddings: longest row that the model was trained for.
        ffn: "swiglu" or "gelu".
        rms_norm_eps: added to the mean square inside RMSNorm.
        norm_weights: RMSNorm multiplies by learned weights.
        rotary_base: base of the rotary frequencies.
        rotary_pairs: channels that turn together, "halves" or "neighbours".
        rotary_backwards: turn by the negative angle.
        reaches: positions that each layer sees, its own included; None where it sees all.
        qk_norm_gain: normalise queries and keys after the rotation and multiply them by this.
        logit_cap: logits z become cap * tanh(z / cap).
        latent_dim: multi-head latent attention: width of the latent.
        latent_rope_dim: its rotary channels.
        smear_channels: nanochat's additions: channels that decide how much of the token before
            is mixed in, behind a norm of the embedding.
        value_gate_channels: channels that decide how much of the value table is added.
        tie_embeddings: the output head is the embedding.
        initializer_range: standard deviation of new matrices.
        kwargs: what transformers adds.
    """

    model_type = "tally"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 32_000,
        hidden_size: int = 512,
        intermediate_size: int = 1536,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 8,
        num_key_value_heads: int = 8,
        head_dim: int = 64,
        max_position_embeddings: int = 1024,
        ffn: str = "swiglu",
        rms_norm_eps: float = 1e-6,
        norm_weights: bool = True,
        rotary_base: float = 10_000.0,
        rotary_pairs: str = "halves",
        rotary_backwards: bool = False,
        reaches: list[int | None] | None = None,
        qk_norm_gain: float | None = None,
        logit_cap: float | None = None,
        latent_dim: int | None = None,
        latent_rope_dim: int | None = None,
        smear_channels: int | None = None,
        value_gate_channels: int | None = None,
        tie_embeddings: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.max_position_embeddings = max_position_embeddings
        self.ffn = ffn
        self.rms_norm_eps = rms_norm_eps
        self.norm_weights = norm_weights
        self.rotary_base = rotary_base
        self.rotary_pairs = rotary_pairs
        self.rotary_backwards = rotary_backwards
        self.reaches = reaches or [None] * num_hidden_layers
        self.qk_norm_gain = qk_norm_gain
        self.logit_cap = logit_cap
        self.latent_dim = latent_dim
        self.latent_rope_dim = latent_rope_dim
        self.smear_channels = smear_channels
        self.value_gate_channels = value_gate_channels
        self.tie_embeddings = tie_embeddings
        self.initializer_range = initializer_range
        # The tied head is no second parameter here, so there is nothing to tie for transformers.
        super().__init__(**(kwargs | {"tie_word_embeddings": False}))


class Past:
    """The keys and values of earlier positions, in a cache of transformers.

    With nanochat's smear the cache has one entry more than there are layers, the first: the
    embeddings, of which the last is mixed into the next token.
    """

    def __init__(self, config: TallyConfig, cache: Cache | None) -> None:
        self.with_embeddings = config.smear_channels is not None
        empty = cache is not None and cache.get_seq_length() == 0
        # transformers makes a cache of as many entries as layers; one without a config grows.
        self.cache = DynamicCache() if self.with_embeddings and empty else cache
        self.length = 0 if cache is None else int(cache.get_seq_length())

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember keys and values [B, K, T, H] and return those of all positions [B, K, S, H]."""
        if self.cache is None:
            return k, v
        found = self.cache.update(k, v, layer + self.with_embeddings)
        return found[0], found[1]

    def extend_embeddings(self, x_BTD: Tensor) -> Tensor:
        """Remember embeddings and return those of all positions [B, S, D]."""
        if self.cache is None:
            return x_BTD
        x_B1TD = x_BTD.unsqueeze(1)
        return self.cache.update(x_B1TD, x_B1TD[..., :0], 0)[0].squeeze(1)


class Positions:
    """Rotary angles of the new positions, and what they may attend to.

    Args:
        attention_mask: [B, S], 0 where a row is padded; None where none is.
    """

    def __init__(
        self, config: TallyConfig, start: int, end: int, attention_mask: Tensor | None, like: Tensor
    ) -> None:
        self.start, self.neighbours = start, config.rotary_pairs == "neighbours"
        self.real_BS = None if attention_mask is None else attention_mask[:, :end].bool()
        keys = torch.arange(end, device=like.device)
        self.distance_TS = keys[start:, None] - keys
        width = config.latent_rope_dim or config.head_dim
        pairs = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
        angles = torch.outer(keys[start:].float(), config.rotary_base ** (-pairs / width))
        self.cos_TP = angles.cos()
        self.sin_TP = -angles.sin() if config.rotary_backwards else angles.sin()

    def rotate(self, x_BNTH: Tensor) -> Tensor:
        """Turn the pairs of every head by the angles of its position."""
        x = x_BNTH.float()
        if self.neighbours:
            first, second = x.view(*x.shape[:-1], -1, 2).unbind(-1)
        else:
            first, second = x.chunk(2, dim=-1)
        turned = (
            first * self.cos_TP - second * self.sin_TP,
            second * self.cos_TP + first * self.sin_TP,
        )
        joined = torch.stack(turned, -1).flatten(-2) if self.neighbours else torch.cat(turned, -1)
        return joined.to(x_BNTH.dtype)

    def mask(self, reach: int | None) -> Tensor:
        """What a layer of this reach may attend to: bool [B or 1, 1, T, S]."""
        seen = (self.distance_TS >= 0)[None, None]
        if reach is not None:
            seen = seen & (self.distance_TS < reach)
        if self.real_BS is not None:
            # A padded position sees itself: a softmax over nothing is not a number.
            seen = (seen & self.real_BS[:, None, None]) | (self.distance_TS == 0)
        return seen


class RMSNorm(nn.Module):
    """Divides by the root mean square of the last axis; multiplies by a learned weight, if any."""

    def __init__(self, width: int, config: TallyConfig) -> None:
        super().__init__()
        self.shape, self.eps = (width,), config.rms_norm_eps
        self.weight: nn.Parameter | None
        weight = nn.Parameter(torch.ones(self.shape)) if config.norm_weights else None
        self.register_parameter("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32 and return the dtype of the input."""
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), self.shape, weight, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Self-attention with as many or fewer key heads than query heads."""

    def __init__(self, config: TallyConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        key_width = config.num_key_value_heads * config.head_dim
        self.q_proj = _linear(config.hidden_size, config.num_attention_heads * config.head_dim)
        self.k_proj = _linear(config.hidden_size, key_width)
        self.v_proj = _linear(config.hidden_size, key_width)
        self.o_proj = _linear(config.num_attention_heads * config.head_dim, config.hidden_size)
        # nanochat: a table of values in every second layer, the last one included
        if config.value_gate_channels and layer % 2 == (config.num_hidden_layers - 1) % 2:
            self.value_embedding = nn.Embedding(config.vocab_size, key_width)
            self.value_gate = _linear(config.value_gate_channels, config.num_key_value_heads)

    def forward(self, x_BTD: Tensor, tokens_BT: Tensor, positions: Positions, past: Past) -> Tensor:
        """Mix positions; x_BTD is already normalised."""
        q_BNTH = self._normed(positions.rotate(self._heads(self.q_proj(x_BTD))))
        k_BKTH = self._normed(positions.rotate(self._heads(self.k_proj(x_BTD))))
        v_BKTH = self._heads(self._values(x_BTD, tokens_BT))
        k_BKSH, v_BKSH = past.extend(self.layer, k_BKTH, v_BKTH)
        mask = positions.mask(self.config.reaches[self.layer])
        return self.o_proj(_attend(q_BNTH, k_BKSH, v_BKSH, mask))

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
        normed = F.rms_norm(x_BNTH.float(), x_BNTH.shape[-1:], eps=self.config.rms_norm_eps)
        return (gain * normed).to(x_BNTH.dtype)

    def _heads(self, x_BTX: Tensor) -> Tensor:
        rows, positions, _ = x_BTX.shape
        return x_BTX.view(rows, positions, -1, self.config.head_dim).transpose(1, 2)


class LatentAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-AI 2024, arXiv:2405.04434), queries uncompressed.

    Keys and values are made from one latent vector a token; positions go through extra channels,
    whose key all heads share. The cache holds the made keys and values.
    """

    def __init__(self, config: TallyConfig, layer: int) -> None:
        super().__init__()
        assert config.latent_dim
        assert config.latent_rope_dim
        self.config, self.layer = config, layer
        rotary, heads = config.latent_rope_dim, config.num_attention_heads * config.head_dim
        self.q_proj = _linear(config.hidden_size, heads + config.num_attention_heads * rotary)
        self.kv_down_proj = _linear(config.hidden_size, config.latent_dim)
        self.kv_norm = RMSNorm(config.latent_dim, config)
        self.k_rope_proj = _linear(config.hidden_size, rotary)
        self.k_up_proj = _linear(config.latent_dim, heads)
        self.v_up_proj = _linear(config.latent_dim, heads)
        self.o_proj = _linear(heads, config.hidden_size)

    def forward(self, x_BTD: Tensor, tokens_BT: Tensor, positions: Positions, past: Past) -> Tensor:
        """Mix positions; x_BTD is already normalised."""
        width, heads = self.config.head_dim, self.config.num_attention_heads
        q_BNTX = self.q_proj(x_BTD).unflatten(-1, (heads, -1)).transpose(1, 2)
        q_BNTX = torch.cat([q_BNTX[..., :width], positions.rotate(q_BNTX[..., width:])], -1)
        latent_BTR = self.kv_norm(self.kv_down_proj(x_BTD))
        k_BNTH, v_BNTH = (
            up(latent_BTR).unflatten(-1, (-1, width)).transpose(1, 2)
            for up in (self.k_up_proj, self.v_up_proj)
        )
        shared_B1TP = positions.rotate(self.k_rope_proj(x_BTD).unsqueeze(1))
        k_BNTX = torch.cat([k_BNTH, shared_B1TP.expand(-1, heads, -1, -1)], -1)
        k_BNSX, v_BNSH = past.extend(self.layer, k_BNTX, v_BNTH)
        mask = positions.mask(self.config.reaches[self.layer])
        return self.o_proj(_attend(q_BNTX, k_BNSX, v_BNSH, mask))


class FeedForward(nn.Module):
    """SwiGLU, or one hidden layer with GELU."""

    def __init__(self, config: TallyConfig) -> None:
        super().__init__()
        self.gated = config.ffn == "swiglu"
        if self.gated:
            self.gate_proj = _linear(config.hidden_size, config.intermediate_size)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform every position by itself; x_BTD is already normalised."""
        hidden = self.up_proj(x_BTD)
        if self.gated:
            return self.down_proj(F.silu(self.gate_proj(x_BTD)) * hidden)
        return self.down_proj(F.gelu(hidden, approximate="tanh"))


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: TallyConfig, layer: int) -> None:
        super().__init__()
        kind = LatentAttention if config.latent_dim else Attention
        self.attention_norm = RMSNorm(config.hidden_size, config)
        self.attention = kind(config, layer)
        self.ffn_norm = RMSNorm(config.hidden_size, config)
        self.ffn = FeedForward(config)

    def forward(self, x_BTD: Tensor, tokens_BT: Tensor, positions: Positions, past: Past) -> Tensor:
        """One layer of the residual stream."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), tokens_BT, positions, past)
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class Nanochat(nn.Module):
    """nanochat's scalars and gates on the residual stream (Karpathy 2025)."""

    def __init__(self, config: TallyConfig) -> None:
        super().__init__()
        assert config.smear_channels
        self.residual_scales = nn.Parameter(torch.ones(config.num_hidden_layers))
        self.beginning_scales = nn.Parameter(torch.zeros(config.num_hidden_layers))
        self.smear_gate = _linear(config.smear_channels, 1)
        self.smear_scale = nn.Parameter(torch.zeros(1))
        self.backout_scale = nn.Parameter(torch.zeros(1))

    def smear(self, x_BTD: Tensor, positions: Positions, past: Past) -> Tensor:
        """Add a gated share of the token before; the first of a row has none."""
        all_BSD = past.extend_embeddings(x_BTD)
        before_BTD = F.pad(all_BSD, (0, 0, 1, 0))[:, positions.start : -1]
        gate_BT1 = torch.sigmoid(self.smear_gate(x_BTD[..., : self.smear_gate.in_features]))
        share_BTD = self.smear_scale * gate_BT1 * before_BTD
        if positions.real_BS is not None:
            is_real_BT = F.pad(positions.real_BS, (1, 0))[:, positions.start : -1]
            share_BTD = share_BTD * is_real_BT.unsqueeze(-1)
        return x_BTD + share_BTD.to(x_BTD.dtype)

    def mix(self, layer: int, x_BTD: Tensor, beginning_BTD: Tensor) -> Tensor:
        """The input of a layer: the stream and its beginning, each scaled."""
        return self.residual_scales[layer] * x_BTD + self.beginning_scales[layer] * beginning_BTD


class TallyForCausalLM(PreTrainedModel, GenerationMixin):
    """Token ids to next-token logits."""

    config_class = TallyConfig
    base_model_prefix = ""
    _no_split_modules = ("Block",)
    _supports_sdpa = True
    _supports_cache_class = True

    def __init__(self, config: TallyConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        nanochat = config.smear_channels is not None
        self.embedding_norm = RMSNorm(config.hidden_size, config) if nanochat else None
        blocks = [Block(config, layer) for layer in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.hidden_size, config)
        tied = config.tie_embeddings
        self.head = None if tied else _linear(config.hidden_size, config.vocab_size)
        self.nanochat = Nanochat(config) if nanochat else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another embedding in its place."""
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        """The head; None where it is the embedding."""
        return self.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Put another head in its place."""
        self.head = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the token after each position, and the mean loss against labels.

        Args:
            input_ids: [B, T], the positions behind those in the cache.
            attention_mask: [B, S] for all positions so far, 0 where a row is padded on the left.
            past_key_values: the cache of the earlier positions.
            labels: [B, T], as input_ids; -100 where a token is not to be learnt.
            use_cache: return a cache, a new one where none is given.
            logits_to_keep: only for so many last positions; 0 for all.
        """
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache()
        past = Past(self.config, past_key_values)
        end = past.length + input_ids.shape[1]
        positions = Positions(self.config, past.length, end, attention_mask, input_ids)
        x_BTD = self.norm(self._blocks(input_ids, positions, past))[:, -logits_to_keep:]
        weight_VD = self.embedding.weight if self.head is None else self.head.weight
        logits_BTV = F.linear(x_BTD, weight_VD)
        if self.config.logit_cap is not None:
            cap = self.config.logit_cap
            logits_BTV = (cap * torch.tanh(logits_BTV.float() / cap)).to(logits_BTV.dtype)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits_BTV[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
            )
        return CausalLMOutputWithPast(loss=loss, logits=logits_BTV, past_key_values=past.cache)

    def _blocks(self, tokens_BT: Tensor, positions: Positions, past: Past) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        extra = self.nanochat
        if extra is None or self.embedding_norm is None:
            for layer in self.layers:
                x_BTD = layer(x_BTD, tokens_BT, positions, past)
            return x_BTD
        x_BTD = extra.smear(self.embedding_norm(x_BTD), positions, past)
        beginning_BTD = middle_BTD = x_BTD
        for number, layer in enumerate(self.layers):
            x_BTD = layer(extra.mix(number, x_BTD, beginning_BTD), tokens_BT, positions, past)
            if number == len(self.layers) // 2:
                middle_BTD = x_BTD
        return x_BTD - extra.backout_scale * middle_BTD


def _linear(width_in: int, width_out: int) -> nn.Linear:
    return nn.Linear(width_in, width_out, bias=False)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(width of q)) v, heads joined: [B, T, N * H]."""
    grouped = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
    return mixed.transpose(1, 2).flatten(2)
