"""`tally init`: what it writes loads, says what every key means, and replaces nothing unasked."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from configs.base import sections
from configs.build import BuildConfig
from configs.commented import commented
from configs.errors import ConfigError
from configs.loading import load, parse_yaml
from configs.mixture import Amount
from configs.train import TrainConfig
from tally import app
from tests.helpers import make_dataset
from train.errors import TrainError

ROOT = Path(__file__).parent.parent
SHIPPED: dict[str, type[BaseModel]] = {
    "demo/train.yaml": TrainConfig,
    "demo/build.yaml": BuildConfig,
    "recipes/shard_54m.yaml": TrainConfig,
    "recipes/mtlm1_200m.yaml": TrainConfig,
    "mixes/edu_c4_math.yaml": BuildConfig,
}


def tally(*arguments: str) -> str:
    """What a command prints where there is no terminal.

    Raises:
        ValueError: ours; the message.
    """
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def types(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in sections(field.annotation):
            yield from types(inner)


@pytest.mark.parametrize("model", [BuildConfig, TrainConfig])
def test_every_key_says_what_it_means(model: type[BaseModel]) -> None:
    for section in types(model):
        for name, field in section.model_fields.items():
            said = field.description or sections(field.annotation)
            assert said or section is Amount, f"{section.__name__}.{name}"


def test_a_build_of_files_and_a_preset(folder: Path) -> None:
    (folder / "texts").mkdir()
    (folder / "texts" / "a.jsonl").write_text('{"id": 1, "body": "words"}\n')
    asked = ["init", "build", "--source", "mine=texts", "--source", "c4_en", "--tokenizer", "4096"]
    said = tally(*asked, "--profile", "web", "-o", "my.yaml")
    assert "tally build my.yaml -o datasets/my" in said
    config = load(folder / "my.yaml", BuildConfig)
    mine = config.sources["mine"]
    assert (mine.kind, mine.profile, config.tokenizer.vocab_size) == ("jsonl", "web", 4096)
    assert mine.kind == "jsonl"
    assert (mine.paths, mine.text) == (("texts/*.jsonl",), "body")
    first = (folder / "my.yaml").read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    values = parse_yaml((folder / "my.yaml").read_text())
    jsonschema.validate(values, json.loads(Path(schema).read_bytes()))
    with pytest.raises(ConfigError, match=r"my\.yaml: is there already"):
        tally(*asked, "-o", "my.yaml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tokenizer", "4096"], "--source: needed, since there is no terminal to ask on"),
        (["--source", "nowhere", "--tokenizer", "9"], "nor one of the presets arc, arxiv"),
        (["--source", "gone.jsonl", "--tokenizer", "9"], "gone.jsonl: no such file"),
        (["--source", "c4_en", "--tokenizer", "9"], "greater than or equal to 257"),
        (["--source", "c4_en", "--tokenizer", "my tokenizer"], "--tokenizer my tokenizer: give"),
        (["--source", "odd.jsonl"], "which column is the text? Name it with --text: id, words"),
        (["--source", "empty.jsonl"], "empty.jsonl: no rows in it; give a file with text"),
    ],
)
def test_mistakes_are_told_and_leave_no_file(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "odd.jsonl").write_text('{"id": 1, "words": "some"}\n')
    (folder / "empty.jsonl").touch()
    with pytest.raises(ValueError, match=re.escape(said)):
        tally("init", "build", *arguments, "-o", "my.yaml")
    assert {path.name for path in folder.iterdir()} == {"odd.jsonl", "empty.jsonl"}


def test_a_run_of_a_dataset(folder: Path) -> None:
    make_dataset(folder / "data", {"a": ["words of a text"] * 300, "b": ["more"] * 200})
    asked = ["init", "train", "--dataset", "data", "--size", "3m", "--seq-len", "16"]
    tally(*asked, "-o", "run.yaml")
    config = load(folder / "run.yaml", TrainConfig)
    assert list(config.data.sources) == ["a", "b"]
    assert str((config.data.phases[0].read or {})["b"]) == "1 epochs"
    assert config.model.max_seq_len == 16
    with pytest.raises(TrainError, match="--tokens 300: write a number and a unit"):
        tally(*asked[:-2], "--tokens", "300", "-o", "other.yaml")
    with pytest.raises(ConfigError, match="--size 9b: there are 3m, 15m, 135m"):
        tally("init", "train", "--dataset", "data", "--size", "9b")


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tally", "init", "build", "-o", "my.yaml"]
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
