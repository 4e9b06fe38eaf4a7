"""Weights of a Hugging Face Llama: same logits, one tokenizer, recorded; no pickles, no others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from configs.loading import load
from configs.train import TrainConfig
from tests.helpers import make_dataset
from tests.hub_server import Repo, serve
from train.errors import TrainError
from train.hf_import import import_model
from train.hf_llama import our_tensors
from train.model import Decoder
from train.origin import check_origin, keep_origin, origin_weights

ROOT = Path(__file__).parent.parent
REST = """
name: goes-on
data:
  seq_len: 16
  sources: {a: {dataset: unused}}
  phases: [{name: p, length: 4 steps, global_batch_tokens: 64, weights: {a: 1}}]
optimizer: {lr: 0.001}
schedule: {shape: cosine, warmup_steps: 1}
micro_batch: 2
checkpoint: {every_steps: 4}
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama as transformers makes and saves it."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(llama: Path) -> Path:
    folder = llama.parent / "start"
    import_model(str(llama), folder)
    return folder


def config_from(start: Path, folder: Path, **changed: Any) -> TrainConfig:
    path = folder / "train.yaml"
    path.write_text(f"extends: {start / 'start.yaml'}\n{REST}")
    return load(path, TrainConfig, [f"{key}={value}" for key, value in changed.items()])


def edited(llama: Path, target: Path, **values: Any) -> Path:
    """A copy with another config.json."""
    shutil.copytree(llama, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))
    return target


@torch.inference_mode()
def test_logits_are_those_of_transformers(llama: Path, start: Path, tmp_path: Path) -> None:
    config = config_from(start, tmp_path)
    assert config.init_from == str(start)
    assert config.model.rope_theta == 500_000.0
    assert not config.model.tie_embeddings
    model = Decoder(config.model).eval()
    model.load_state_dict(origin_weights(start))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    tokens = torch.arange(120).view(2, 60)
    expected = theirs.eval()(tokens).logits
    assert expected.abs().max() > 1
    assert (model(tokens) - expected).abs().max() < 1e-4


def test_a_run_keeps_its_origin(llama: Path, start: Path, tmp_path: Path) -> None:
    keep_origin(config_from(start, tmp_path), tmp_path)
    origin = json.loads((tmp_path / "origin.json").read_bytes())
    assert origin["model"] == str(llama)
    assert origin["parameters"] == sum(
        t.numel() for t in load_file(start / "model.safetensors").values()
    )
    assert origin["max_logit_difference"] < 1e-4
    assert set(origin["files"]) == {"config.json", "model.safetensors"}


def test_wrappers_prefixes_are_taken_off(llama: Path, start: Path, tmp_path: Path) -> None:
    found = load_file(llama / "model.safetensors")
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in found.items()}
    config = config_from(start, tmp_path).model
    plain = our_tensors(found, config, "here")
    assert {n: t.sum().item() for n, t in our_tensors(wrapped, config, "here").items()} == {
        n: t.sum().item() for n, t in plain.items()
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "qwen2"}, "model_type = 'qwen2'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "rope_type = 'llama3'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.\S+ is missing"),
        ({"intermediate_size": 64}, r"is \[48, 32\] instead of \[64, 32\]"),
    ],
)
def test_other_models_are_refused(
    llama: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        import_model(str(edited(llama, tmp_path / "other", **changed)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickles_are_not_read(llama: Path, tmp_path: Path) -> None:
    folder = edited(llama, tmp_path / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TrainError, match="pickle files"):
        import_model(str(folder), tmp_path / "out")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(TrainError, match="not a whole safetensors file"):
        import_model(str(folder), tmp_path / "out")
    with pytest.raises(TrainError, match=r"no config\.json; give a Hugging Face folder"):
        import_model(str(tmp_path), tmp_path / "out")
    with pytest.raises(TrainError, match="no such folder"):
        import_model(str(tmp_path / "none"), tmp_path / "out")


def test_weights_in_parts(llama: Path, tmp_path: Path) -> None:
    folder = edited(llama, tmp_path / "parts")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {}
    for number, name in enumerate(tensors):
        file = f"part-{number % 2}.safetensors"
        names[name] = file
    for file in set(names.values()):
        part = {name: tensor for name, tensor in tensors.items() if names[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert len(import_model(str(folder), tmp_path / "out")["files"]) == 3
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(TrainError, match="outside of its folder"):
        import_model(str(folder), tmp_path / "out")


def test_a_run_must_fit_its_weights(llama: Path, start: Path, tmp_path: Path) -> None:
    check_origin(config_from(start, tmp_path), {})
    with pytest.raises(TrainError, match=r"model\.ffn_dim = 96, there 48"):
        check_origin(config_from(start, tmp_path, **{"model.ffn_dim": 96}), {})
    with pytest.raises(TrainError, match="tally import MODEL"):
        check_origin(config_from(start, tmp_path, init_from=tmp_path), {})
    dataset = make_dataset(tmp_path / "data", {"a": ["some text"] * 3})
    with_tokenizer = edited(llama, tmp_path / "with")
    shutil.copy(dataset.path / "tokenizer.json", with_tokenizer)
    import_model(str(with_tokenizer), tmp_path / "own")
    config = config_from(tmp_path / "own", tmp_path)
    check_origin(config, {"a": dataset})
    other = tmp_path / "own" / "tokenizer.json"
    values = json.loads(other.read_bytes())
    vocab = values["model"]["vocab"]
    *_, first, second = vocab
    vocab[first], vocab[second] = vocab[second], vocab[first]
    other.write_text(json.dumps(values))
    with pytest.raises(TrainError, match="another tokenizer"):
        check_origin(config, {"a": dataset})


@pytest.mark.slow
def test_a_repository_is_pinned_to_its_commit(llama: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in llama.iterdir() if path.is_file()}
    commit = "c" * 40
    command = [sys.executable, "tally.py", "import", "someone/llama", "-o", str(tmp_path / "out")]
    with serve() as hub:
        hub.repos = {"someone/llama": Repo({commit: files | {"evil.bin": b"x"}}, {"main": commit})}
        env = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
        subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True)
        asked = " ".join(request.path for request in hub.requests)
    assert "evil.bin" not in asked
    origin = json.loads((tmp_path / "out" / "origin.json").read_bytes())
    assert (origin["model"], origin["revision"]) == ("someone/llama", commit)
    assert f"someone/llama at revision {commit}" in (tmp_path / "out" / "start.yaml").read_text()
    done = subprocess.run(command, env=env, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "someone/llama: cannot be fetched from the hub" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_changed_weights_are_noticed(start: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(start, copy)
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(TrainError, match="not what `tally import` wrote"):
        origin_weights(copy)
