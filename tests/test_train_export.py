"""The Hugging Face folder: same logits, works in a pipeline, never left behind when wrong."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from configs.loading import load
from configs.train import TrainConfig
from tests import load_export
from tests.tiny_run import MODEL, make_run
from train.errors import TrainError
from train.export import (
    check_folder,
    export_run,
    real_tokens,
    write_folder,
)
from train.hf_llama import llama_tensors
from train.model import Decoder
from train.process import prepare_process
from train.run_data import run_datasets
from train.subject import load_subject


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(run_dir: Path) -> Path:
    return export_run(run_dir)


def test_facts_of_the_comparison_are_written(run_dir: Path, folder: Path) -> None:
    assert folder == run_dir / "export"
    facts = json.loads((folder / "export.json").read_bytes())
    assert facts["architecture"] == "LlamaForCausalLM"
    assert facts["max_logit_difference"] <= facts["tolerance"] == 1e-3
    assert facts["checked_on"] == "docs/val"
    assert facts["tokens_compared"] == 512
    assert facts["parameters"] == load_subject(run_dir).model.num_parameters()
    assert set(facts["blake3"]) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_pipeline_generates_and_tokenizes_as_we_do(run_dir: Path, folder: Path) -> None:
    pipe = transformers.pipeline("text-generation", model=str(folder), device="cpu")
    (answer,) = pipe("Return the number", max_new_tokens=8)
    subject = load_subject(run_dir)
    text = "Return the mean of `data`.\n\n>>> mean([1, 2, 3])\n2\n"
    assert pipe.tokenizer(text)["input_ids"] == subject.tokenizer.encode(text).ids
    assert pipe.tokenizer.eos_token_id == subject.eos_id
    ids = subject.tokenizer.encode("Return the number").ids
    for _ in range(8):
        with torch.inference_mode():
            ids.append(int(subject.model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == subject.eos_id:
            ids.pop()
            break
    assert answer["generated_text"] == subject.tokenizer.decode(ids)


def test_other_weights_are_refused(run_dir: Path, tmp_path: Path) -> None:
    """A single weight off by 1 is seen, and the folder does not pass."""
    subject = load_subject(run_dir)
    dataset = run_datasets(run_dir)["docs"]
    write_folder(subject.model, dataset, tmp_path, "float32")
    with torch.no_grad():
        dict(subject.model.named_parameters())["layers.0.attention.q_proj.weight"][0, 0] += 1.0
    _, rows = real_tokens(dataset, "docs", subject.model.config)
    with pytest.raises(TrainError, match="differ from ours by"):
        check_folder(subject.model, tmp_path, rows)


def test_untied_head_and_grouped_queries_export_too(run_dir: Path, tmp_path: Path) -> None:
    config = MODEL.model_copy(
        update={"tie_embeddings": False, "num_kv_heads": 1, "rope_theta": 500_000.0}
    )
    model = Decoder(config)
    model.initialise(seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    assert "lm_head.weight" in llama_tensors(model.state_dict(), config)
    dataset = run_datasets(run_dir)["math"]
    write_folder(model.eval(), dataset, tmp_path, "float32")
    facts = check_folder(model, tmp_path, real_tokens(dataset, "math", config)[1])
    assert facts["largest_logit"] > 0.1
    assert facts["max_logit_difference"] <= 1e-3


def test_bfloat16_weights_are_compared_as_stored(run_dir: Path, tmp_path: Path) -> None:
    half = export_run(run_dir, tmp_path / "half", precision="bfloat16")
    whole = export_run(run_dir, tmp_path / "whole")
    size = (half / "model.safetensors").stat().st_size
    assert size < 0.6 * (whole / "model.safetensors").stat().st_size
    assert json.loads((half / "config.json").read_bytes())["torch_dtype"] == "bfloat16"


def test_a_folder_of_something_else_is_left_alone(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TrainError, match="no export of ours"):
        export_run(run_dir, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_interleaved_rope_is_reordered_for_llama(run_dir: Path, tmp_path: Path) -> None:
    """check_folder compares the logits with `LlamaForCausalLM`'s and refuses a difference."""
    model = Decoder(MODEL.model_copy(update={"rope_pairs": "neighbours"}))
    model.initialise(seed=1)
    dataset = run_datasets(run_dir)["docs"]
    write_folder(model.eval(), dataset, tmp_path, "float32")
    _, rows = real_tokens(dataset, "docs", model.config)
    assert check_folder(model, tmp_path, rows)["max_logit_difference"] < 1e-4


def lively(model: Decoder) -> Decoder:
    """With scalars, gates and norms that a mix-up would show."""
    model.initialise(seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                torch.nn.init.uniform_(parameter, -0.5, 1.5, generator=generator)
            elif name.endswith(("o_proj.weight", "down_proj.weight", "gate.weight")):
                torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.eval()


RECIPES = sorted(Path("configs/recipes/tiny").glob("*.yaml"))
LLAMAS = {"l20_edu_135m", "l20_edu_135m_as_run", "mtlm1_200m", "tinylm_275m_a", "tinylm_275m_c"}
GENERATING = {"gelu_d12_261m", "tinylm_275m_b"}  # one with a cache of its own, one with a latent


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipes_model_exports(run_dir: Path, tmp_path: Path, path: Path) -> None:
    """check_folder compares logits alone, through the cache and padded."""
    model = lively(Decoder(load(path, TrainConfig).model))
    dataset = run_datasets(run_dir)["docs"]
    write_folder(model, dataset, tmp_path, "float32")
    rows = real_tokens(dataset, "docs", model.config)[1]
    facts = check_folder(model, tmp_path, rows)
    llama = path.stem in LLAMAS
    assert facts["architecture"] == ("LlamaForCausalLM" if llama else "TallyForCausalLM")
    assert (tmp_path / "modeling_tally.py").exists() != llama
    furthest = max(value for name, value in facts.items() if name.startswith("max_"))
    assert furthest < 1e-4 * max(1, facts["largest_logit"])
    if path.stem in GENERATING:
        _check_use(model, tmp_path, rows)


@torch.inference_mode()
def _check_use(model: Decoder, folder: Path, rows: torch.Tensor) -> None:
    """As a user would: generation alone, padded, with beams, the pipeline; then in bfloat16."""
    save_file({"tokens": rows, "logits": model(rows)}, folder / "expected.safetensors")
    assert load_export.check(folder) < 1e-4
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, trust_remote_code=True
    )
    assert theirs.dtype == torch.bfloat16
    ours = model.bfloat16()(rows).float()
    assert (theirs(rows).logits.float() - ours).abs().max() < 0.02 * ours.abs().max() + 0.01
