"""`tally init`: what it writes loads, says what every key means, and replaces nothing unasked."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel

from configs.build import BuildConfig
from configs.commented import commented
from configs.loading import load, parse_yaml
from configs.train import TrainConfig
from tests.helpers import make_dataset

ROOT = Path(__file__).parent.parent
TALLY = [sys.executable, "-m", "tally"]
SHIPPED: dict[str, type[BaseModel]] = {
    "demo/train.yaml": TrainConfig,
    "demo/build.yaml": BuildConfig,
    "recipes/shard_54m.yaml": TrainConfig,
    "recipes/mtlm1_200m.yaml": TrainConfig,
    "mixes/edu_c4_math.yaml": BuildConfig,
}


def tally(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*TALLY, *arguments], cwd=folder, env=env, capture_output=True, text=True, stdin=-3
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_values_stay_and_defaults_are_told_truly(name: str) -> None:
    """Switched on, every default gives the same configuration."""
    model = SHIPPED[name]
    values = parse_yaml((ROOT / "configs" / name).read_text(encoding="utf-8"))
    text = commented(model, values)
    assert parse_yaml(text) == values
    switched_on = re.sub(r"^(\s*)#(?=\S|  )", r"\1", text, flags=re.M)
    assert model.model_validate(parse_yaml(switched_on)) == model.model_validate(values)
    assert len(parse_yaml(switched_on)) == len(model.model_fields)


def test_a_build_of_files_and_a_preset(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jsonl").write_text('{"id": 1, "body": "words"}\n')
    asked = ["init", "build", "--source", "mine=texts", "--source", "c4_en", "--tokenizer", "4096"]
    done = tally(tmp_path, *asked, "--profile", "web", "-o", "my.yaml")
    assert done.returncode == 0, done.stderr
    assert "tally build my.yaml -o datasets/my" in done.stdout
    config = load(tmp_path / "my.yaml", BuildConfig)
    mine = config.sources["mine"]
    assert (mine.kind, mine.profile, config.tokenizer.vocab_size) == ("jsonl", "web", 4096)
    assert mine.kind == "jsonl"
    assert (mine.paths, mine.text) == (("texts/*.jsonl",), "body")
    first = (tmp_path / "my.yaml").read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    values = parse_yaml((tmp_path / "my.yaml").read_text())
    jsonschema.validate(values, json.loads(Path(schema).read_bytes()))
    again = tally(tmp_path, *asked, "-o", "my.yaml")
    assert again.returncode == 2
    assert "my.yaml: is there already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tokenizer", "4096"], "--source: needed, since there is no terminal to ask on"),
        (["--source", "nowhere", "--tokenizer", "9"], "nor one of the presets arc, arxiv"),
        (["--source", "gone.jsonl", "--tokenizer", "9"], "gone.jsonl: no such file"),
        (["--source", "c4_en", "--tokenizer", "9"], "greater than or equal to 257"),
        (["--source", "c4_en", "--tokenizer", "my tokenizer"], "--tokenizer my tokenizer: give"),
        (["--source", "odd.jsonl"], "which column is the text? Name it with --text: id, words"),
    ],
)
def test_mistakes_are_told_and_leave_no_file(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "odd.jsonl").write_text('{"id": 1, "words": "some"}\n')
    done = tally(tmp_path, "init", "build", *arguments, "-o", "my.yaml")
    assert done.returncode == 2
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["odd.jsonl"]


def test_a_run_of_a_dataset(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", {"a": ["words of a text"] * 300, "b": ["more"] * 200})
    asked = ["init", "train", "--dataset", "data", "--size", "3m", "--seq-len", "16"]
    done = tally(tmp_path, *asked, "-o", "run.yaml")
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "run.yaml", TrainConfig)
    assert list(config.data.sources) == ["a", "b"]
    assert str((config.data.phases[0].read or {})["b"]) == "1 epochs"
    assert config.model.max_seq_len == 16
    wrong = tally(tmp_path, *asked[:-2], "--tokens", "300", "-o", "other.yaml")
    assert "--tokens 300: write a number and a unit" in wrong.stderr
    wrong = tally(tmp_path, "init", "train", "--dataset", "data", "--size", "9b")
    assert "--size 9b: there are 3m, 15m, 135m" in wrong.stderr


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*TALLY, "init", "build", "-o", "my.yaml"]
    started = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdin=theirs, stdout=subprocess.PIPE, text=True
    )
    os.write(ours, b"c4_en\n\n")
    said, _ = started.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert started.returncode == 0
    assert "Files, a preset or hub:OWNER/NAME" in said
    assert load(tmp_path / "my.yaml", BuildConfig).tokenizer.vocab_size == 32768
