"""The Hugging Face folder of a model that is no Llama: our names, and the code that reads them.

train/hub/modeling_tally.py is copied into the folder; it imports torch and transformers alone.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from configs.model import ModelConfig
from train.errors import TrainError
from train.hf_shape import shape_keys

CODE = Path(__file__).parent / "hub" / "modeling_tally.py"


def copy_code(folder: Path) -> None:
    """Put the model's code into the folder."""
    shutil.copyfile(CODE, folder / CODE.name)


def custom_config(config: ModelConfig, eos_id: int, precision: str) -> dict[str, Any]:
    """Our shape and switches in the words of `train.hub.modeling_tally.TallyConfig`."""
    return {
        "architectures": ["TallyForCausalLM"],
        "model_type": "tally",
        **shape_keys(config, eos_id, precision),
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.TallyConfig",
            "AutoModelForCausalLM": f"{CODE.stem}.TallyForCausalLM",
        },
        "tie_embeddings": config.tie_embeddings,
        **_switches(config),
        # transformers before 4.57 finds the tokenizer of an unknown model type by this alone.
        "tokenizer_class": "PreTrainedTokenizerFast",
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


def refuse_foreign_code(folder: Path) -> None:
    """Refuse a folder that says it is an export of ours and brings, or names, code that is not.

    Raises:
        TrainError: a Python file that is not the one we ship, or a class from elsewhere.
    """
    for path in folder.rglob("*.py"):
        if path.read_bytes() != CODE.read_bytes():
            raise TrainError(f"{path}: not the code that this release exports; export the run anew")
    for path in folder.glob("*.json"):
        named = _auto_map(path)
        if any(not str(name).startswith(f"{CODE.stem}.") for name in named):
            raise TrainError(f"{path}: names code that is not ours ({named}); export the run anew")


def _auto_map(path: Path) -> list[Any]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        return []
    named = values.get("auto_map") if isinstance(values, dict) else None
    return list(named.values()) if isinstance(named, dict) else [named] if named else []
