"""A run as a Hugging Face folder, proved equal to the model that was trained.

    RUN/export/  config.json  generation_config.json  model.safetensors
                 tokenizer.json  tokenizer_config.json  export.json
                 modeling_tally.py, where the model is no `LlamaForCausalLM`

The folder is loaded back with `AutoModelForCausalLM` before it gets its name, and both models'
logits on real held-out tokens are compared: row by row, through the cache of keys and values as
when text is generated, and padded on the left. A folder that differs is never left behind.
"""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from configs.model import ModelConfig
from configs.outputs import require_own, require_place
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file
from shards.lock import held
from shards.reader import Dataset, TokenStream
from train.errors import TrainError
from train.hf_custom import copy_code, custom_config
from train.hf_llama import is_llama, llama_config, llama_tensors
from train.model import Decoder
from train.run_data import run_datasets, run_plan
from train.subject import Subject, load_subject

EXPORT_NAME = "export.json"
Precision = Literal["float32", "bfloat16"]
TOLERANCE = 1e-3
"""Largest accepted difference of a logit; both sides compute in float32 from equal weights."""
_CHECKED_ROWS, _CHECKED_TOKENS, _PADDING = 4, 256, 5


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
        TrainError: the folder is something else, or its logits are not ours.
    """
    run_plan(run_dir)  # before a lock is made: a mistyped RUN shall not become a folder
    target = directory or run_dir / "export"
    require_place(target)
    require_own(target, "no export of ours", EXPORT_NAME, TrainError)
    lock, what = target.with_name(f".{target.name}.lock"), f"{target}: another export is writing it"
    with held(lock, what, "wait for it, or choose another with -o", TrainError):
        _export(run_dir, target, step, precision)
    return target


def _export(run_dir: Path, target: Path, step: int | None, precision: Precision) -> None:
    subject = load_subject(run_dir, step)
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


def round_weights(model: Decoder, precision: Precision) -> Decoder:
    """The model with weights as they will be stored, still computing in float32."""
    return model.to(getattr(torch, precision)).float()


def write_folder(model: Decoder, dataset: Dataset, folder: Path, precision: Precision) -> None:
    """Config, weights and tokenizer in Hugging Face's names."""
    facts = dataset.manifest.tokenizer
    config, tensors = model.config, model.state_dict()
    if is_llama(config):
        described = llama_config(config, facts.eos_id, precision)
        tensors = llama_tensors(tensors, config)
    else:
        described = custom_config(config, facts.eos_id, precision)
        copy_code(folder)
    write_json_atomic(folder / "config.json", described)
    generation = {"eos_token_id": facts.eos_id, "pad_token_id": facts.eos_id, "do_sample": False}
    write_json_atomic(folder / "generation_config.json", generation)
    stored = getattr(torch, precision)
    tensors = {name: value.to(stored).contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
    dataset.files.check(facts.file)
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

    transformers.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=True
    )
    differences = {
        "max_logit_difference": _furthest(model(rows_BT), theirs(rows_BT).logits),
        "max_difference_with_cache": _furthest(model(rows_BT), _with_cache(theirs, rows_BT)),
        "max_difference_padded": _furthest(model(rows_BT), _padded(theirs, rows_BT)),
    }
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise TrainError(
                f"{folder}: the exported model's logits differ from ours by {difference:.3g} "
                f"({name}), more than {TOLERANCE}; nothing was written. This is a bug: keep the "
                "run and report it"
            )
    return {
        "architecture": type(theirs).__name__,
        "custom_code": not is_llama(model.config),
        "parameters": model.num_parameters(),
        **differences,
        "tolerance": TOLERANCE,
        "tokens_compared": rows_BT.numel(),
        "largest_logit": float(model(rows_BT).abs().max()),
        "transformers": transformers.__version__,
    }


def _furthest(ours_BTV: Tensor, theirs_BTV: Tensor) -> float:
    return float((ours_BTV - theirs_BTV).abs().max())


def _with_cache(theirs: Any, rows_BT: Tensor) -> Tensor:
    """Logits of a beginning, then of a few single tokens, then of the rest."""
    half = rows_BT.shape[1] // 2
    cuts = [0, half, *range(half + 1, min(half + 4, rows_BT.shape[1])), rows_BT.shape[1]]
    past, logits = None, []
    for start, end in pairwise(cuts):
        answer = theirs(rows_BT[:, start:end], past_key_values=past, use_cache=True)
        past = answer.past_key_values
        logits.append(answer.logits)
    return torch.cat(logits, 1)


def _padded(theirs: Any, rows_BT: Tensor) -> Tensor:
    """Logits of rows that are padded with their last tokens on the left."""
    mask_BT = torch.ones_like(rows_BT)
    mask_BT = torch.cat([torch.zeros_like(mask_BT[:, :_PADDING]), mask_BT], 1)
    padded_BT = torch.cat([rows_BT[:, -_PADDING:], rows_BT], 1)
    logits: Tensor = theirs(padded_BT, attention_mask=mask_BT).logits
    return logits[:, -rows_BT.shape[1] :]


def _finish(temporary: Path, target: Path, facts: dict[str, Any], subject: Subject) -> None:
    sums = {path.name: blake3_file(path) for path in sorted(temporary.iterdir())}
    facts |= {"model": subject.described(), "blake3": sums}
    write_json_atomic(temporary / EXPORT_NAME, facts)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
