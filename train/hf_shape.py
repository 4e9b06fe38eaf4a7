"""The keys of a Hugging Face config.json that all our folders share."""

from typing import Any

from configs.model import ModelConfig


def shape_keys(config: ModelConfig, eos_id: int, precision: str) -> dict[str, Any]:
    """Our shape in transformers' words, special tokens and precision."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_seq_len,
        "initializer_range": config.init_std,
        "rms_norm_eps": config.norm_eps,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": eos_id,
        "torch_dtype": precision,
        "use_cache": True,
    }
