"""The shape of the decoder: the numbers a model file needs, checked before torch is imported."""

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from configs.base import Section


class ModelConfig(Section):
    """A Llama-style decoder: RMSNorm before each block, rotary positions, SwiGLU, no biases."""

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
    """Hidden width of the SwiGLU feed-forward block."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary frequencies."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square inside RMSNorm."""
    tie_embeddings: bool = True
    """The output head is the embedding matrix itself."""
    max_seq_len: PositiveInt
    """Longest sequence the model may be given; training windows must fit."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of every matrix at initialisation."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} is no multiple of num_kv_heads = "
                f"{self.num_kv_heads}: every key head must serve the same number of query heads; "
                "change one of them"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim = {self.head_dim} is odd: rotary positions turn pairs of numbers; "
                "use an even head_dim"
            )
        return self
