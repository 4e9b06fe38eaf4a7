"""The Hugging Face folder of a model that is no Llama: our names, and the code that reads them.

train/hub/modeling_tally.py is copied into the folder; it imports torch and transformers alone.
"""

import shutil
from pathlib import Path
from typing import Any

from configs.model import ModelConfig

CODE = Path(__file__).parent / "hub" / "modeling_tally.py"


def copy_code(folder: Path) -> None:
    """Put the model's code into the folder."""
    shutil.copyfile(CODE, folder / CODE.name)


def custom_config(config: ModelConfig, eos_id: int, precision: str) -> dict[str, Any]:
    """Our shape and switches in the words of `train.hub.modeling_tally.TallyConfig`."""
    return {
        "architectures": ["TallyForCausalLM"],
        "model_type": "tally",
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.TallyConfig",
            "AutoModelForCausalLM": f"{CODE.stem}.TallyForCausalLM",
        },
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_seq_len,
        "tie_embeddings": config.tie_embeddings,
        "initializer_range": config.init_std,
        "rms_norm_eps": config.norm_eps,
        **_switches(config),
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": eos_id,
        # transformers before 4.57 finds the tokenizer of an unknown model type by this alone.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "torch_dtype": precision,
        "use_cache": True,
    }


def _switches(config: ModelConfig) -> dict[str, Any]:
    mla, nanochat = config.mla, config.nanochat
    return {
        "ffn": config.ffn,
        "norm_weights": config.norm_weights,
        "rotary_base": config.rope_theta,
        "rotary_pairs": config.rope_pairs,
        "rotary_backwards": config.rope_backwards,
        "reaches": [config.window(layer) for layer in range(config.num_layers)],
        "qk_norm_gain": config.qk_norm_gain,
        "logit_cap": config.logit_cap,
        "latent_dim": mla.latent_dim if mla else None,
        "latent_rope_dim": mla.rope_dim if mla else None,
        "smear_channels": nanochat.smear_channels if nanochat else None,
        "value_gate_channels": nanochat.gate_channels if nanochat else None,
    }
