"""A run as a Hugging Face folder, proved equal: `LlamaForCausalLM` with our weights.

    RUN/export/  config.json  generation_config.json  model.safetensors
                 tokenizer.json  tokenizer_config.json  export.json

The folder is loaded back with `AutoModelForCausalLM` before it gets its name, and both models'
logits on real held-out tokens are compared; a folder that differs is never left behind.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from configs.model import ModelConfig
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file
from shards.reader import Dataset, TokenStream
from train.errors import TrainError
from train.evaluate import Subject, load_subject
from train.model import Decoder
from train.run_data import run_datasets, run_plan

Precision = Literal["float32", "bfloat16"]
TOLERANCE = 1e-3
"""Largest accepted difference of a logit; both sides compute in float32 from equal weights."""
_CHECKED_ROWS, _CHECKED_TOKENS = 4, 256
_LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "ffn_norm": "post_attention_layernorm",
    "ffn": "mlp",
}


def export_run(
    run_dir: Path,
    directory: Path | None = None,
    step: int | None = None,
    precision: Precision = "float32",
) -> Path:
    """Write the run's model as a Hugging Face folder and prove it equal.

    Args:
        run_dir: the RUN directory.
        directory: where to; RUN/export by default, replaced if it is an export of ours.
        step: which checkpoint; the newest by default.
        precision: of the stored weights.

    Raises:
        TrainError: the folder is something else, its logits are not ours, or Llama lacks something.
    """
    target = directory or run_dir / "export"
    if target.exists() and any(target.iterdir()) and not (target / "export.json").exists():
        raise TrainError(f"{target}: exists and is no export of ours; choose another with -o")
    subject = load_subject(run_dir, step)
    refuse_other_models(subject.model.config)
    model = round_weights(subject.model.cpu(), precision)
    plan, datasets = run_plan(run_dir), run_datasets(run_dir)
    dataset = datasets[plan.sources[0].name]
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_folder(model, dataset, temporary, precision)
    stream, rows = real_tokens(dataset, plan.sources[0].source, model.config)
    facts = check_folder(model, temporary, rows)
    facts |= {"precision": precision, "checked_on": f"{stream.source}/{stream.split}"}
    _finish(temporary, target, facts, subject)
    return target


def round_weights(model: Decoder, precision: Precision) -> Decoder:
    """The model with weights as they will be stored, still computing in float32."""
    return model.to(getattr(torch, precision)).float()


def write_folder(model: Decoder, dataset: Dataset, folder: Path, precision: Precision) -> None:
    """Config, weights and tokenizer in Hugging Face's names."""
    facts = dataset.manifest.tokenizer
    write_json_atomic(folder / "config.json", llama_config(model.config, facts.eos_id, precision))
    generation = {"eos_token_id": facts.eos_id, "pad_token_id": facts.eos_id, "do_sample": False}
    write_json_atomic(folder / "generation_config.json", generation)
    stored = getattr(torch, precision)
    tensors = {name: value.to(stored) for name, value in llama_tensors(model).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
    shutil.copyfile(dataset.files.path(facts.file), folder / "tokenizer.json")
    write_json_atomic(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": facts.eos_token,
            "pad_token": facts.eos_token,
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.max_seq_len,
        },
    )


def refuse_other_models(config: ModelConfig) -> None:
    """Refuse a model that `LlamaForCausalLM` cannot express.

    Raises:
        TrainError: which switches it lacks.
    """
    llama = {"ffn": "swiglu", "mla": None, "short_window": None, "rope_backwards": False}
    llama |= {"qk_norm_gain": None, "logit_cap": None, "norm_weights": True, "nanochat": None}
    lacking = [name for name, value in llama.items() if getattr(config, name) != value]
    if lacking:
        raise TrainError(
            f"the model has {', '.join(lacking)}, which Llama does not; only models without can be "
            "exported, but `tally eval` and `tally generate` work on the run itself"
        )


def llama_config(config: ModelConfig, eos_id: int, precision: Precision) -> dict[str, Any]:
    """Our shape in Llama's words."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "initializer_range": config.init_std,
        "rms_norm_eps": config.norm_eps,
        # Both spellings: transformers 5 reads rope_parameters, older versions rope_theta.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": eos_id,
        "torch_dtype": precision,
        "use_cache": True,
    }


def llama_tensors(model: Decoder) -> dict[str, Tensor]:
    """Our weights under Llama's names; a tied head is left out, as Hugging Face does."""
    config, tensors = model.config, model.state_dict()
    if config.rope_pairs == "neighbours":
        for name in (n for n in tensors if n.endswith(("q_proj.weight", "k_proj.weight"))):
            tensors[name] = _neighbours_to_halves(tensors[name], config.head_dim)
    return {_llama_name(name): value for name, value in tensors.items()}


def _neighbours_to_halves(weight_XD: Tensor, head_dim: int) -> Tensor:
    """Reorder each head's channels so that pairs 2i, 2i + 1 become i, i + head_dim / 2."""
    pairs = weight_XD.view(-1, head_dim // 2, 2, weight_XD.shape[1])
    return pairs.transpose(1, 2).reshape(weight_XD.shape).contiguous()


def _llama_name(name: str) -> str:
    fixed = {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    }
    if name in fixed:
        return fixed[name]
    layers, number, part, *rest = name.split(".")
    return ".".join(["model", layers, number, _LAYER_NAMES[part], *rest])


def real_tokens(dataset: Dataset, source: str, config: ModelConfig) -> tuple[TokenStream, Tensor]:
    """Rows of held-out tokens (of training tokens where nothing is held out): int64 [B, T]."""
    splits = dataset.manifest.sources[source].splits
    stream = dataset.stream(source, "val" if "val" in splits else "train")
    length = min(config.max_seq_len, _CHECKED_TOKENS, stream.num_tokens)
    rows = min(_CHECKED_ROWS, stream.num_tokens // length)
    tokens = stream.tokens(0, rows * length).astype(np.int64)
    return stream, torch.from_numpy(tokens).reshape(rows, length)


@torch.inference_mode()
def check_folder(model: Decoder, folder: Path, rows_BT: Tensor) -> dict[str, Any]:
    """Load the folder as a user would and compare logits.

    Raises:
        TrainError: a logit differs by more than TOLERANCE.
    """
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours_BTV, theirs_BTV = model(rows_BT), theirs(rows_BT).logits
    difference = float((ours_BTV - theirs_BTV).abs().max())
    if not difference <= TOLERANCE:
        raise TrainError(
            f"{folder}: the exported model's logits differ from ours by {difference:.3g}, more "
            f"than {TOLERANCE}; nothing was written. This is a bug: keep the run and report it"
        )
    return {
        "architecture": type(theirs).__name__,
        "parameters": model.num_parameters(),
        "max_logit_difference": difference,
        "tolerance": TOLERANCE,
        "tokens_compared": rows_BT.numel(),
        "largest_logit": float(ours_BTV.abs().max()),
        "transformers": transformers.__version__,
    }


def _finish(temporary: Path, target: Path, facts: dict[str, Any], subject: Subject) -> None:
    sums = {path.name: blake3_file(path) for path in sorted(temporary.iterdir())}
    facts |= {"model": subject.described(), "blake3": sums}
    write_json_atomic(temporary / "export.json", facts)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
