"""Shell completion, asked as the shells ask: by environment variables, and through bash itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TALLY = Path(sys.executable).parent / "tally"


def completed(line: str, cwd: Path) -> list[str]:
    """What bash is answered for the last word of a line."""
    words = line.split(" ")
    asked = {"_TALLY_COMPLETE": "complete_bash", "COMP_WORDS": line}
    env = {**os.environ, **asked, "COMP_CWORD": str(len(words) - 1)}
    result = subprocess.run([TALLY], env=env, cwd=cwd, capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_commands_choices_and_shipped_configs(tmp_path: Path) -> None:
    assert completed("tally bu", tmp_path) == ["build"]
    assert completed("tally audit d --sensitivity s", tmp_path) == ["strict", "sensitive"]
    assert completed("tally build x --executor ", tmp_path) == ["local", "ray", "slurm"]
    assert completed("tally build configs/mixes/fineweb_edu_1", tmp_path) == [
        "configs/mixes/fineweb_edu_10bt.yaml"
    ]
    assert not completed("tally train configs/sources/", tmp_path)


def test_own_configs_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "run.yaml").write_text("name: x")
    (tmp_path / "my" / "notes.txt").write_text("no configuration")
    assert completed("tally train my", tmp_path) == ["my/run.yaml"]
    absolute = str(tmp_path / "my" / "run.yaml")
    assert completed(f"tally plan {tmp_path}/", tmp_path) == [absolute]


def test_zsh_is_answered_in_its_own_form(tmp_path: Path) -> None:
    asked = {"_TALLY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "tally plan configs/ed"}
    answer = subprocess.run(
        [TALLY], env={**os.environ, **asked}, cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "_arguments '*: :((\"configs/edu/train.yaml\"))'"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_with_the_script_it_installs(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{TALLY.parent}:{os.environ['PATH']}", "_TALLY_COMPLETE": ""}
    env.pop("_TALLY_COMPLETE")
    script = (
        'eval "$(_TALLY_COMPLETE=source_bash tally)"; COMP_WORDS=(tally led); COMP_CWORD=1; '
        '_tally_completion tally; echo "${COMPREPLY[@]}"'
    )
    answer = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert answer.stdout.split() == ["ledger"], answer.stderr


def test_an_answer_loads_little() -> None:
    """It takes 0.2 s, a third of it typer's own; any of these would add 0.05 s to a second."""
    heavy = {"numpy", "polars", "pydantic", "rich.progress", "torch", "yaml"}
    code = f"import sys, tally; print(*({heavy} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=TALLY.parent, capture_output=True, text=True, check=True
    )
    assert not loaded.stdout.split()
