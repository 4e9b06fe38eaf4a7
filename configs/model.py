"""The shape of the decoder: the numbers a model file needs, checked before torch is imported."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from configs.base import Section


class MlaConfig(Section):
    """Multi-head latent attention (DeepSeek-AI 2024, arXiv:2405.04434), queries uncompressed.

    Keys and values are expanded from one latent vector a token; positions go through extra
    channels, whose key all heads share.
    """

    latent_dim: PositiveInt
    """Width of the latent vector that keys and values are made from."""
    rope_dim: PositiveInt
    """Channels of every head's query, beside `head_dim`, that carry the rotary position."""


class NanochatConfig(Section):
    """The additions of nanochat (Karpathy 2025), which come together.

    A learned mix of the residual stream with its beginning before every layer; a gated share of
    the token before ("smear"); a share of the middle layer taken out at the end ("backout"); in
    every second layer, the last one included, a gated table of its own added to the values.
    """

    smear_channels: PositiveInt = 24
    """First channels of a token that decide how much of the one before is mixed in."""
    gate_channels: PositiveInt = 12
    """First channels of a layer's input that decide how much of the value table is added."""


class ModelConfig(Section):
    """A decoder with RMSNorm before each block, rotary positions and no biases.

    Without any of the switches it is Llama (Touvron et al. 2023, arXiv:2302.13971).
    """

    vocab_size: PositiveInt
    """Rows of the embedding; at least the tokenizer's vocabulary (padding rows are never read)."""
    num_layers: PositiveInt
    """Decoder blocks."""
    d_model: PositiveInt
    """Width of the residual stream."""
    num_heads: PositiveInt
    """Query heads."""
    num_kv_heads: PositiveInt
    """Key and value heads; fewer than `num_heads` gives grouped-query attention."""
    head_dim: PositiveInt
    """Width of one head; even, because rotary positions turn pairs."""
    ffn_dim: PositiveInt
    """Hidden width of the feed-forward block."""
    ffn: Literal["swiglu", "gelu"] = "swiglu"
    """down(silu(gate(x)) * up(x)), or down(gelu(up(x))) with the tanh approximation."""
    mla: MlaConfig | None = None
    """Latent attention instead of separate key and value projections."""
    windows: Annotated[str, Field(pattern=r"^[SL]+$")] = "L"
    """Short or long reach of every layer, repeated over the layers; the last one is always long."""
    short_window: PositiveInt | None = None
    """Positions a layer of short reach sees, its own included."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary frequencies."""
    rope_pairs: Literal["halves", "neighbours"] = "halves"
    """Which channels turn together: i and i + head_dim / 2, or 2i and 2i + 1."""
    rope_backwards: bool = False
    """Turn by the negative angle, as nanochat does."""
    qk_norm_gain: float | None = Field(default=None, gt=0)
    """Normalise queries and keys after the rotation and multiply them by this."""
    logit_cap: float | None = Field(default=None, gt=0)
    """Logits z become cap * tanh(z / cap)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the embedding's output and the attention probabilities, while training."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square inside RMSNorm."""
    norm_weights: bool = True
    """RMSNorm multiplies by learned weights."""
    nanochat: NanochatConfig | None = None
    """nanochat's additions, and its initialisation."""
    tie_embeddings: bool = True
    """The output head is the embedding matrix itself."""
    max_seq_len: PositiveInt
    """Longest sequence the model may be given; training windows must fit."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of every matrix at initialisation; nanochat has its own rules."""

    def window(self, layer: int) -> int | None:
        """Positions that a layer sees, its own included; None where it sees all before it."""
        last = layer == self.num_layers - 1
        short = self.windows[layer % len(self.windows)] == "S" and not last
        return self.short_window if short else None

    def has_value_table(self, layer: int) -> bool:
        """Whether nanochat's table is added to the values of this layer."""
        return self.nanochat is not None and layer % 2 == (self.num_layers - 1) % 2

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} is no multiple of num_kv_heads = "
                f"{self.num_kv_heads}: every key head must serve the same number of query heads; "
                "change one of them"
            )
        rotary = self.mla.rope_dim if self.mla else self.head_dim
        if rotary % 2:
            raise ValueError(
                f"{'mla.rope_dim' if self.mla else 'head_dim'} = {rotary} is odd: rotary "
                "positions turn pairs of numbers; use an even one"
            )
        return self

    @model_validator(mode="after")
    def _switches_fit(self) -> Self:
        if ("S" in self.windows) != (self.short_window is not None):
            raise ValueError(
                "'short_window' goes with an S in 'windows', and only with it; give both or none"
            )
        if self.mla and (self.num_kv_heads != self.num_heads or self.nanochat):
            raise ValueError(
                "'mla' has a key for every head and no value tables: num_kv_heads must be "
                "num_heads, and 'nanochat' absent"
            )
        return self
