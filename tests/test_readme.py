"""The README's commands, options, links and files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md")), ROOT / "CONTRIBUTING.md"]


def commands(page: Path) -> set[str]:
    """Every `tally ...` of a page, options included, without arguments."""
    return set(re.findall(r"(?:^|[`/$ ])tally ([a-z]+(?: [^`\n|]*)?)", page.read_text(), re.M))


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """Help text of every verb."""
    verbs = {c.split()[0] for page in PAGES for c in commands(page)}
    texts = {}
    for verb in verbs:
        command = [sys.executable, "-m", "tally", verb, "--help"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert result.returncode == 0, f"tally {verb}: {result.stderr}"
        texts[verb] = result.stdout
    return texts


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path, helps: dict[str, str]) -> None:
    for command in commands(page):
        for option in re.findall(r"(?<![\w-])(--[a-z-]+|-[a-z])\b", command):
            assert option in helps[command.split()[0]], f"tally {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.M):
            assert f"\n{target}:" in makefile, f"make {target} in {page.name}"


def test_configs_named_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"configs/[\w/]+\.yaml", page.read_text()):
            assert (ROOT / path).is_file(), path
