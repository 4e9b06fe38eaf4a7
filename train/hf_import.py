"""Weights of a Hugging Face Llama as the beginning of a run.

    FOLDER/  model.safetensors  float32, under our names
             tokenizer.json     the model's own, to build the dataset with
             origin.json        where all this is from, and how equal it was found
             start.yaml         `model` and `init_from`, to be extended by a training config

Only safetensors are read: a pickle can run code. A repository is pinned to a commit.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.model import ModelConfig
from configs.outputs import require_own, require_place
from shards.atomic import write_json_atomic, write_text_atomic
from shards.hashing import blake3_file
from train.checkpoint import MODEL_FILE
from train.errors import TrainError
from train.hf_llama import model_config, our_tensors
from train.model import Decoder
from train.origin import ORIGIN_NAME, TOKENIZER_NAME

TOLERANCE = 1e-3
"""Largest accepted difference of a logit; both sides compute in float32 from equal weights."""
START_NAME = "start.yaml"
_INDEX = "model.safetensors.index.json"
_WANTED = ["config.json", "*.safetensors", _INDEX, TOKENIZER_NAME]
_PATIENCE_S = 15
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def import_model(model: str, output: Path, revision: str | None = None) -> dict[str, Any]:
    """Write FOLDER; returns the content of origin.json.

    Args:
        model: a folder, or owner/name on the hub.
        output: FOLDER.
        revision: of the repository: a commit, branch or tag; what it is now is recorded.

    Raises:
        TrainError: it cannot be had, is no plain Llama, or does not compute what transformers does.
    """
    require_place(output)
    require_own(output, "no import of ours", ORIGIN_NAME, TrainError)
    source, commit = _find(model, revision)
    config = model_config(_json(source / "config.json"), str(source / "config.json"))
    files = _weight_files(source)
    tensors = our_tensors(_load(files), config, str(source))
    decoder = Decoder(config)
    decoder.load_state_dict(tensors)
    facts = _check(decoder.eval(), source)
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / MODEL_FILE)
    read = [source / "config.json", *files]
    if (source / TOKENIZER_NAME).is_file():
        shutil.copyfile(source / TOKENIZER_NAME, temporary / TOKENIZER_NAME)
        read.append(source / TOKENIZER_NAME)
    origin = {
        "model": model if commit else str(source.resolve()),
        "revision": commit,
        "files": {path.name: blake3_file(path) for path in read},
        "parameters": decoder.num_parameters(),
        **facts,
        "weights_blake3": blake3_file(temporary / MODEL_FILE),
        "config": config.model_dump(mode="json"),
    }
    write_text_atomic(temporary / START_NAME, _start(config, output, origin))
    write_json_atomic(temporary / ORIGIN_NAME, origin)
    shutil.rmtree(output, ignore_errors=True)
    temporary.rename(output)
    return origin


def _find(model: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder to read and, of a repository, its commit."""
    if Path(model).is_dir():
        if revision:
            raise TrainError(f"{model} is a folder: it has no revision {revision}")
        return Path(model), None
    if not _REPOSITORY.fullmatch(model):
        raise TrainError(f"{model}: no such folder, and no owner/name of a repository")
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        commit = str(HfApi().model_info(model, revision=revision, timeout=_PATIENCE_S).sha)
        folder = snapshot_download(model, revision=commit, allow_patterns=_WANTED)
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        httpx2.HTTPError,
        OSError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainError(
            f"{model}: cannot be fetched from the hub: {reason}; is the name right, and the hub "
            "within reach? A folder with the repository's files does as well"
        ) from None
    return Path(folder), commit


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        names = sorted(set(_json(folder / _INDEX)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise TrainError(f"{folder / _INDEX}: names files outside of its folder")
        paths = [folder / name for name in names]
    else:
        paths = [folder / "model.safetensors"]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise TrainError(
            f"{folder}: no {', '.join(missing)}; only safetensors are read, since pickle files "
            "(.bin, .pt) can run code: convert them first, with transformers' save_pretrained"
        )
    return paths


def _load(files: list[Path]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            found |= load_file(path)
        except SafetensorError as error:
            raise TrainError(f"{path}: not a whole safetensors file: {error}") from None
    return found


@torch.inference_mode()
def _check(decoder: Decoder, folder: Path) -> dict[str, Any]:
    """Compare logits with those of transformers on random tokens."""
    import transformers

    transformers.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    generator = torch.Generator().manual_seed(0)
    length = min(64, decoder.config.max_seq_len)
    tokens_BT = torch.randint(0, decoder.config.vocab_size, (2, length), generator=generator)
    ours_BTV, theirs_BTV = decoder(tokens_BT), theirs.eval()(tokens_BT).logits
    difference = float((ours_BTV - theirs_BTV).abs().max())
    if not difference <= TOLERANCE:
        raise TrainError(
            f"{folder}: our logits differ from those of transformers by {difference:.3g}, more "
            f"than {TOLERANCE}; nothing was written"
        )
    return {
        "max_logit_difference": difference,
        "tokens_compared": tokens_BT.numel(),
        "transformers": transformers.__version__,
    }


def _start(config: ModelConfig, output: Path, origin: dict[str, Any]) -> str:
    shape = config.model_dump(mode="json", exclude_defaults=True)
    values = {"init_from": str(output.resolve()), "model": shape}
    revision = f" at revision {origin['revision']}" if origin["revision"] else ""
    words = f"# Weights of {origin['model']}{revision}; extend this file in a training config.\n"
    return words + yaml.safe_dump(values, sort_keys=False)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainError(f"{path.parent}: no {path.name}; give a Hugging Face folder, with it")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path}: not readable as JSON: {error}") from None
    return values
