"""The site builds without a warning, and its reference has what the code has."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

import tally
from configs.build import BuildConfig
from configs.cleaning import DedupConfig
from configs.train import TrainConfig
from docs.generate import GENERATORS
from tests.docs_pages import ROOT


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "."]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "docs/reference/config.html").read_text()
    assert "near-duplicate" in page
    assert 'id="hubsource"' in page
    index = (tmp_path / "docs/index.html").read_text()
    assert "How-to guides" in index
    assert (tmp_path / "index.html").is_file()


def test_every_setting_is_in_the_reference() -> None:
    text = GENERATORS["config"]()
    for model in (BuildConfig, TrainConfig, DedupConfig):
        for name, field in model.model_fields.items():
            assert f"`{name}`:" in text, name
            assert not field.description or field.description.split(";")[0].split()[0] in text
    assert "`threshold`: number, > 0, ≤ 1; default `0.7`" in text


def test_every_command_is_in_the_reference() -> None:
    text = GENERATORS["cli"]()
    group = typer.main.get_command(tally.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.hidden or f"## tally {name}" in text
        for option in (option for p in command.params for option in p.opts if "-" in option):
            assert command.hidden or option in text


def test_files_are_in_the_reference() -> None:
    assert "`dataset_id`" in GENERATORS["manifest"]()
    assert "min_bits" in GENERATORS["audit"]()
