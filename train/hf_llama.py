"""Llama's names for our decoder, in both directions: config, weights, order of rotary channels."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from configs.model import ModelConfig
from train.errors import TrainError
from train.hf_shape import shape_keys

_PARTS = {
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "ffn_norm": "post_attention_layernorm",
    "ffn": "mlp",
}
_FIXED = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_PLAIN: dict[str, Any] = {
    "ffn": "swiglu",
    "mla": None,
    "short_window": None,
    "rope_backwards": False,
    "qk_norm_gain": None,
    "logit_cap": None,
    "norm_weights": True,
    "nanochat": None,
}
"""The switches as Llama has them."""
_UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "pretraining_tp": (1, None),
    "rope_scaling": (None,),
}
"""Values of a Llama config that the decoder computes."""
_WRAPPERS = ("module.", "_orig_mod.")


def is_llama(config: ModelConfig) -> bool:
    """Whether `LlamaForCausalLM` computes this model, rotary channels reordered where need be."""
    return all(getattr(config, name) == value for name, value in _PLAIN.items())


def llama_config(config: ModelConfig, eos_id: int, precision: str) -> dict[str, Any]:
    """Our shape in Llama's words."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape_keys(config, eos_id, precision),
        "hidden_act": "silu",
        # Both spellings: transformers 5 reads rope_parameters, older versions rope_theta.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
    }


def model_config(llama: Mapping[str, Any], where: str) -> ModelConfig:
    """A Llama config.json as ours.

    Args:
        llama: its content.
        where: the file, for messages.

    Raises:
        TrainError: it is no Llama, or one with something that the decoder has not.
    """
    rope = llama.get("rope_parameters") or {}
    wrong = [f"{k} = {llama[k]!r}" for k, v in _UNDERSTOOD.items() if llama.get(k, v[0]) not in v]
    if "model_type" not in llama:
        wrong.append("no model_type")
    if rope.get("rope_type", "default") != "default":
        wrong.append(f"rope_parameters.rope_type = {rope['rope_type']!r}")
    if wrong:
        raise TrainError(
            f"{where}: {', '.join(wrong)}; only plain Llama models can be gone on with (model_type "
            "'llama', silu, no biases, no scaled rotary positions)"
        )
    try:
        heads = llama["num_attention_heads"]
        return ModelConfig(
            vocab_size=llama["vocab_size"],
            num_layers=llama["num_hidden_layers"],
            d_model=llama["hidden_size"],
            num_heads=heads,
            num_kv_heads=llama.get("num_key_value_heads") or heads,
            head_dim=llama.get("head_dim") or llama["hidden_size"] // heads,
            ffn_dim=llama["intermediate_size"],
            max_seq_len=llama["max_position_embeddings"],
            rope_theta=rope.get("rope_theta") or llama.get("rope_theta") or 10_000.0,
            norm_eps=llama.get("rms_norm_eps", 1e-6),
            tie_embeddings=llama.get("tie_word_embeddings", False),
            init_std=llama.get("initializer_range", 0.02),
        )
    except (KeyError, ValueError) as error:
        raise TrainError(f"{where}: not a whole Llama config: {error}") from None


def llama_tensors(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our weights under Llama's names; a tied head is left out, as Hugging Face does."""
    named = {_llama_name(name): value for name, value in tensors.items()}
    if config.rope_pairs == "neighbours":
        for name in (n for n in named if n.endswith(("q_proj.weight", "k_proj.weight"))):
            named[name] = _neighbours_to_halves(named[name], config.head_dim)
    return named


def our_tensors(llama: Mapping[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Llama's weights under our names, float32; prefixes of wrappers are taken off.

    Raises:
        TrainError: a tensor is missing, superfluous or of another shape.
    """
    import torch

    from train.model import Decoder

    with torch.device("meta"):
        expected = {_llama_name(n): (n, t.shape) for n, t in Decoder(config).state_dict().items()}
    found = {_unwrapped(name): value for name, value in llama.items()}
    found = {
        name: value for name, value in found.items() if not name.endswith("rotary_emb.inv_freq")
    }
    if config.tie_embeddings:
        found.pop("lm_head.weight", None)
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in expected]
    wrong += [
        f"{name} is {list(found[name].shape)} instead of {list(shape)}"
        for name, (_, shape) in expected.items()
        if name in found and found[name].shape != shape
    ]
    if wrong:
        raise TrainError(f"{where}: not the weights of its config.json: {'; '.join(wrong[:5])}")
    return {ours: found[name].float().contiguous() for name, (ours, _) in expected.items()}


def _unwrapped(name: str) -> str:
    """A tensor's name without what DDP and torch.compile put before and into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _neighbours_to_halves(weight_XD: Tensor, head_dim: int) -> Tensor:
    """Reorder each head's channels so that pairs 2i, 2i + 1 become i, i + head_dim / 2."""
    pairs = weight_XD.view(-1, head_dim // 2, 2, weight_XD.shape[1])
    return pairs.transpose(1, 2).reshape(weight_XD.shape).contiguous()


def _llama_name(name: str) -> str:
    if name in _FIXED:
        return _FIXED[name]
    layers, number, part, *rest = name.split(".")
    return ".".join(["model", layers, number, _PARTS[part], *rest])
