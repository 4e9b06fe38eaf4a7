"""The commands of docs/accounting.md print what the page says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/accounting.md").read_text()
EXAMPLES = re.findall(r"```sh\n(tally plan .*?)```\s*```text\n(.*?)```", PAGE, re.DOTALL)


def words(line: str) -> str:
    """Without the frames of tables and the width of their columns."""
    return " ".join(re.sub("[│┃]", " ", line).split())


@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_examples_print_what_is_shown(command: str, shown: str) -> None:
    arguments = [sys.executable, "-m", *shlex.split(command.replace("\\\n", " "))]
    done = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    printed = {words(line) for line in done.stdout.splitlines()}
    assert {words(line) for line in shown.splitlines()} <= printed


def test_all_examples_are_run() -> None:
    assert len(EXAMPLES) == PAGE.count("tally plan configs") == 4
