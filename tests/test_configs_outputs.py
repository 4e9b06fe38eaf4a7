"""Outputs that cannot be made, and folders of others, are refused before any work is done."""

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs.errors import ConfigError
from configs.outputs import is_hidden, output_path, require_own, require_place
from shards.errors import DatasetError
from tally import app
from train.errors import TrainError
from train.run_dir import require_run_dir

ROOT = Path(__file__).parent.parent
COMMANDS = [
    ["build", str(ROOT / "configs/demo/build.yaml"), "--dry-run", "-o"],
    ["audit", "DATASET", "-b", "olmo:all", "-o"],
    ["convert", "--to", "nanogpt", "DATASET"],
    ["train", str(ROOT / "configs/demo/train.yaml"), "--dry-run", "-o"],
    ["train", str(ROOT / "configs/experiments/tiny_tinylm.yaml"), "--dry-run", "-o"],
    ["demo", "-o"],
    ["init", "build", "--source", "a.jsonl", "--tokenizer", "512", "--licence", "x", "-o"],
]


def given(command: list[str], output: str) -> BaseException | None:
    return CliRunner().invoke(app, [*command, output]).exception


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2])[:20])
def test_commands_refuse_what_cannot_be_made(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "a.jsonl").write_text('{"text": "words", "id": "1"}\n')
    more = ["--profile", "none"] if command[0] == "init" else []
    error = given([*command[:2], *more, *command[2:]], "file/x")
    assert isinstance(error, ConfigError)
    assert str(error) == f"output file/x: {tmp_path}/file is no folder; choose another output"
    error = given(command, "")
    assert isinstance(error, SystemExit)
    assert error.code == 2


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("file", "is there and is no folder"),
        ("file/a/b", "file is no folder"),
        ("a\nb", r"output 'a\\nb': has a control character"),
        ("ä" * 101, "over 200 bytes; shorten the name"),
        ("/proc/x/y", r"/proc/x/y: cannot be made in /proc \(No such file"),
    ],
)
def test_each_is_said_as_it_is(
    output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if output.startswith("/proc") and not Path("/proc").exists():
        pytest.skip("no /proc here")
    with pytest.raises(ConfigError, match=said):
        require_place(Path(output))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        require_place(tmp_path / "x")
    tmp_path.chmod(0o700)


def test_what_can_be_made_leaves_no_trace(tmp_path: Path) -> None:
    require_place(tmp_path / "a" / "b")
    require_place(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_output_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_path(".") == tmp_path
    assert output_path("a/..") == tmp_path
    assert output_path("a/b") == Path("a/b")
    with pytest.raises(typer.BadParameter):
        output_path(" ")


def test_folders_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    require_own(folder, "no dataset", "mark", DatasetError)
    folder.mkdir()
    require_own(folder, "no dataset", "mark", DatasetError)
    (folder / ".lock").touch()
    require_own(folder, "no dataset", "mark", DatasetError, is_hidden)
    (folder / "letter.txt").touch()
    with pytest.raises(DatasetError, match="d exists and is no dataset; choose another output"):
        require_own(folder, "no dataset", "mark", DatasetError, is_hidden)
    (folder / "mark").touch()
    require_own(folder, "no dataset", "mark", DatasetError)


def test_a_run_is_not_begun_among_other_files(tmp_path: Path) -> None:
    for name in (".plan.json.0123abcd.tmp", "plan.json", "origin.json", "duplicates-0.parquet"):
        (tmp_path / name).touch()
        require_run_dir(tmp_path)  # a start was killed
    (tmp_path / "letter.txt").touch()
    with pytest.raises(TrainError, match="exists and is no run; choose another output with -o"):
        require_run_dir(tmp_path)
    (tmp_path / "config.yaml").touch()
    require_run_dir(tmp_path)


def test_nor_is_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    experiment = str(ROOT / "configs/experiments/tiny_tinylm.yaml")
    error = given(["train", experiment, "--dry-run", "-o"], str(tmp_path))
    assert isinstance(error, TrainError)
    assert "exists and is no experiment; choose another output with -o" in str(error)
