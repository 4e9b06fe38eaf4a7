"""The Python of docs/interchange.md runs as printed, and reads what it says."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers import make_dataset
from tests.helpers_convert import export

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/interchange.md").read_text()
SNIPPETS = re.findall(r"```python tested\n(.*?)```", PAGE, re.DOTALL)
TEXTS = ["a text of some length, " * 50, "", "another " * 100]
PACKAGES = {"IndexedDataset": "megatron", "NumpyFSLDataset": "olmo_core"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATASET and OUT-<format>, as the page names them."""
    base = tmp_path_factory.mktemp("docs")
    dataset = make_dataset(base / "DATASET", {"web": TEXTS}, {"web": ["held out"]})
    for name in ("datatrove", "megatron", "olmo", "nanogpt"):
        export(dataset, base / f"OUT-{name}", name)
    return base


def _run(place: Path, code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(place)}
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _snippet(word: str) -> str:
    (found,) = [code for code in SNIPPETS if word in code]
    return str(found)


def test_numpy_and_torch_read_a_dataset(place: Path) -> None:
    """In one program: what the snippets read is the same."""
    code = "\n".join(_snippet(word) for word in ("json.load", "pandas", "torch"))
    check = """
assert document.tolist() == tokens[:count].tolist() and document[-1] == 0
assert (document[:-1] != 0).all() and len(targets) == 1024
assert batch[0].shape == batch[1].shape == (4, 64)
assert batch[0].flatten().tolist() == inputs[:256].tolist()
assert batch[1].flatten().tolist() == targets[:256].tolist()
print("checked")
"""
    assert _run(place, code + check) == "checked\n"


@pytest.mark.parametrize("word", ["DatatroveFolder", "IndexedDataset", "NumpyFSLDataset"])
def test_readers_of_others(place: Path, word: str) -> None:
    package = PACKAGES.get(word, "datatrove")
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed; docs/interchange.md says how")
    check = """
import numpy
ours = numpy.fromfile("DATASET/web/train/00000.bin", dtype="uint16")
assert list(first) == ours[: len(first)].tolist() and len(first) >= 64
print("checked")
"""
    assert _run(place, _snippet(word) + check).endswith("checked\n")


def test_nanogpt(place: Path) -> None:
    check = "\nassert len(data) == len('held out') + 1; print('checked')"
    assert _run(place, _snippet("get_batch") + check) == "checked\n"


def test_every_snippet_is_tested() -> None:
    assert len(SNIPPETS) == 7


def test_commands_have_the_options() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "tally", "convert", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    ).stdout
    options = set(re.findall(r"--[a-z-]+", " ".join(re.findall(r"tally convert .*", PAGE))))
    assert options >= {"--to", "--from", "--source", "--split", "--eos-at", "--tokenizer"}
    for option in options:
        assert option in help_text
