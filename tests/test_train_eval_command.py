"""The command a user types: killed and given again, and with everything fetched from a hub."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from tests.hub_server import Repo, serve
from tests.tiny_run import make_run

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("tiny"))


def command(run_dir: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tally", "eval", str(run_dir), "--no-heldout", *more]


def copa_rows(number: int) -> str:
    rows = [
        {"premise": f"The cup number {i} fell.", "choice1": "It broke.", "choice2": "It sang.",
         "question": "effect", "idx": i, "label": i % 2}
        for i in range(number)
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows)


def piqa_rows(number: int) -> str:
    rows = [
        {"goal": f"Hold cup {i}.", "sol1": "Use a hand.", "sol2": "Use a song.", "label": i % 2}
        for i in range(number)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
def test_killed_in_the_middle_and_given_again_it_writes_the_same_files(
    run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "copa.jsonl").write_text(copa_rows(20))
    (tmp_path / "piqa.jsonl").write_text(piqa_rows(3000))
    env = os.environ | {"TALLY_CACHE": str(tmp_path / "cache")}
    options = ("--tasks", "copa,piqa", "--data", str(tmp_path))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for copy in (killed, whole):
        shutil.copytree(run_dir, copy)
    with subprocess.Popen(command(killed, *options), env=env, cwd=ROOT) as process:
        while not (killed / "eval" / "copa.json").exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "eval" / "piqa.json").exists()
    (killed / "eval" / ".piqa.json.0123abcd.tmp").touch()  # as a kill while it is written leaves
    done = subprocess.run(
        command(killed, *options), env=env, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "copa: reused" in done.stdout
    assert "piqa: validation split" in done.stdout
    subprocess.run(command(whole, *options), env=env, cwd=ROOT, check=True, capture_output=True)
    names = ["copa.json", "copa.samples.jsonl", "piqa.json", "piqa.samples.jsonl"]
    for folder in (killed, whole):
        assert sorted(path.name for path in (folder / "eval").iterdir()) == names
    for name in names:
        assert (killed / "eval" / name).read_bytes() == (whole / "eval" / name).read_bytes()


def a_model(folder: Path, tokenizer: Path) -> dict[str, bytes]:
    """The files of a small GPT-2 of noise."""
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": 512}
    config = transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def published(files: dict[str, bytes]) -> Repo:
    commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    return Repo({commit: files}, {"main": commit})


@pytest.mark.slow
def test_items_and_baselines_come_from_the_hub_pinned_to_a_commit(
    run_dir: Path, tmp_path: Path
) -> None:
    card = "configs:\n- config_name: default\n  data_files:\n  - {split: test, path: test.jsonl}\n"
    texts = [
        {"text": f"The cup {i} fell and broke, so she swept the {i} pieces."} for i in range(6)
    ]
    lambada = {
        "README.md": f"---\n{card}---\n".encode(),
        "test.jsonl": "".join(json.dumps(row) + "\n" for row in texts).encode(),
    }
    gpt2 = a_model(tmp_path / "gpt2", run_dir.parent / "dataset" / "tokenizer.json")
    run, options = tmp_path / "run", ("--tasks", "lambada_openai", "--baselines", "gpt2")
    shutil.copytree(run_dir, run)
    with serve() as hub:
        hub.repos = {
            "EleutherAI/lambada_openai": published(lambada),
            "openai-community/gpt2": published(gpt2),
        }
        env = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
        env |= {"TALLY_CACHE": str(tmp_path / "cache")}
        subprocess.run(command(run, *options), env=env, cwd=ROOT, check=True)
    result = json.loads((run / "eval" / "lambada_openai.json").read_bytes())
    (commit,) = hub.repos["EleutherAI/lambada_openai"].commits
    assert result["data"]["commit"] == commit
    assert result["items"] == result["items"] | {"in_split": 6, "scored": 6}
    content = (run / "eval" / "comparison.json").read_bytes()
    (baseline,) = json.loads(content)["baselines"]
    (commit,) = hub.repos["openai-community/gpt2"].commits
    assert baseline["model"] == {"repo": "openai-community/gpt2", "commit": commit}
    # The hub is gone: commits are remembered, scores are reused.
    done = subprocess.run(
        command(run, *options), env=env, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.count("lambada_openai: reused") == 2
    assert (run / "eval" / "comparison.json").read_bytes() == content
