"""Who may import whom, and that everything but `train` runs without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("configs", "shards", "contamination", "pipeline", "train")
MAY_IMPORT = {
    "configs": set[str](),
    "shards": set[str](),
    "contamination": {"configs", "shards"},
    "train": {"configs", "shards", "contamination"},
    "pipeline": {"configs", "shards", "contamination"},
}
# The command line of `shards` prints through the terminal of `configs`, like every other one.
COMMAND_LINE = {("shards", "cli.py"), ("shards", "__main__.py")}


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_folders(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names} & {*FOLDERS, "tally"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_design(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[folder] | {folder}
    if (folder, path.name) in COMMAND_LINE:
        allowed = allowed | {"configs"}
    assert imported_folders(path) <= allowed


def test_everything_but_train_runs_without_torch() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules()
        if path.relative_to(ROOT).parts[0] != "train" and path.name != "__main__.py"
    ]
    code = (
        "import importlib, sys; sys.modules['torch'] = None\n"
        f"for name in {names!r}: importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_is_quick_to_import() -> None:
    code = (
        "import sys, tally\n"
        "heavy = {'torch', 'deepspeed', 'datatrove', 'numba', 'lm_eval', 'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_file_names_a_package_registry() -> None:
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"))]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.split():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        assert not any(host in text for host in hosts), name
