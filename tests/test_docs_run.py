"""The pages' own commands, run as they stand: files, Python and shell of a page in order.

What a page calls offline runs in a folder of its own that has the shipped configurations and
nothing else; the guides go on where docs/howto/own-data.md ended, as they say. Pages that train are
slow. `text shows` after a block: lines that it prints, whatever the width of the columns.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs_pages import ROOT, Block, blocks, name_of, pages

FIRST = ROOT / "docs/howto/own-data.md"
SLOW = {ROOT / "docs/tutorial.md", ROOT / "docs/howto/resume.md"}
RUN = [page for page in pages() if any(block.kind == "run" for block in blocks(page))]
GUIDES = [page for page in RUN if page.parent.name == "howto" and page not in {FIRST, *SLOW}]


def words(line: str) -> str:
    """A line without the frames of tables and the width of their columns."""
    return " ".join(re.sub("[│┃]", " ", line).split())


def run(block: Block, folder: Path) -> str:
    """Run a block in the folder, with `tally` in PATH and no hub; returns what it printed."""
    shell = ["bash", "-euo", "pipefail", "-c"]
    command = [*shell, block.content] if block.language == "sh" else [sys.executable, "-c"]
    command += [] if block.language == "sh" else [block.content]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def follow(page: Path, folder: Path) -> None:
    """Do what a page says, in its order."""
    printed = ""
    for block in blocks(page):
        if block.language == "yaml" and (named := re.match(r"# (\S+\.yaml)\n", block.content)):
            (folder / named[1]).write_text(block.content)
        if block.kind == "run":
            printed = run(block, folder)
        if block.kind == "shows":
            lines = [words(line) for line in printed.splitlines()]
            for line in block.content.splitlines():
                assert any(words(line) in told for told in lines), f"{block.place}: {line}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def test_guides_do_what_they_say(folder: Path) -> None:
    follow(FIRST, folder)
    for page in GUIDES:
        own = folder / page.stem
        shutil.copytree(folder / "data", own / "data")
        for path in folder.glob("notes.*"):
            shutil.copy(path, own)
        follow(page, own)


@pytest.mark.parametrize("page", [p for p in RUN if p not in {FIRST, *GUIDES, *SLOW}], ids=name_of)
def test_pages_do_what_they_say(page: Path, folder: Path) -> None:
    follow(page, folder)


@pytest.mark.slow
def test_tutorial_does_what_it_says(folder: Path) -> None:
    follow(ROOT / "docs/tutorial.md", folder)


@pytest.mark.slow
def test_resuming_does_what_it_says(folder: Path) -> None:
    follow(FIRST, folder)
    follow(ROOT / "docs/howto/resume.md", folder)
