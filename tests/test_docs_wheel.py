"""The wheel works where there is no checkout: `tally`, a shipped configuration, a build."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What this environment has installed, without the checkout that its editable install adds.
PACKAGES = """
import site, sys
paths = [p for p in sys.path if p.endswith("site-packages")]
print("\\n".join(paths))
"""


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tally` of an environment of its own that has the wheel, and shares our dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    shared = subprocess.run([sys.executable, "-c", PACKAGES], stdout=subprocess.PIPE, check=True)
    (ours,) = (folder / "env/lib").glob("python*/site-packages")
    # Paths alone: a .pth inside them, as that of the editable install, is not followed.
    (ours / "shared.pth").write_bytes(shared.stdout)
    return folder / "env/bin/tally"


def run(tally: Path, folder: Path, *arguments: str) -> str:
    kept = ("PATH", "LANG", "TALLY_CACHE", "HOME")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    command = [str(tally), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_alone(tally: Path, tmp_path: Path) -> None:
    place = [str(tally.parent / "python"), "-c", "import tally; print(tally.__file__)"]
    where = subprocess.run(place, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "site-packages" in where
    assert str(ROOT / "tally.py") not in where
    assert "build" in run(tally, tmp_path, "--help")
    assert "runs/demo" in run(tally, tmp_path, "demo", "--help")
    shipped = Path(where.strip()).parent / "configs/edu/train.yaml"
    assert "134,515,008" in run(tally, tmp_path, "plan", str(shipped))
    wrong = [str(tally), "plan", "absent.yaml"]
    said = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True).stderr
    page = Path(said.rpartition("more: ")[2].partition("#")[0])
    assert "site-packages" in page.parts
    assert page.is_file()
    asked = ["init", "build", "--source", "c4_en", "--tokenizer", "4096", "-o", "new.yaml"]
    assert "wrote new.yaml" in run(tally, tmp_path, *asked)
    (tmp_path / "a.txt").write_text("a text that is long enough to be kept " * 200)
    (tmp_path / "b.txt").write_text("another one, with other words in it altogether " * 200)
    (tmp_path / "build.yaml").write_text(
        "name: own\nsources: {own: {kind: text, paths: ['*.txt'], licence: CC0-1.0}}\n"
        "split: {val_fraction: 0}\ntokenizer: {vocab_size: 300}\n"
    )
    run(tally, tmp_path, "build", "build.yaml", "-o", "out")
    assert "own" in run(tally, tmp_path, "verify", "out") + run(tally, tmp_path, "inspect", "out")
