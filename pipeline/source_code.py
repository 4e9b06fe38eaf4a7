"""The source code that decides what a stage writes: its modules and all of ours that they import.

Imports are followed wherever they stand in a file, so no module can be forgotten. What cannot
change an output is `HARMLESS` and not followed: a new progress bar must not cost anybody a build.
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from blake3 import blake3

FOLDERS = ("configs", "contamination", "pipeline", "shards")
HARMLESS = frozenset(
    {
        "configs.executor",  # where tasks run
        "configs.presets",  # their values are in the key
        "configs.terminal",
        "contamination.errors",
        "pipeline.errors",
        "pipeline.executor",
        "pipeline.source_code",  # names what is hashed
        "pipeline.stages",
        "pipeline.task_report",  # progress and messages
        "shards.address_check",  # refuses, changes nothing
        "shards.cache",  # the name of a folder
        "shards.errors",
        "shards.lock",
        "shards.room",  # how large the cache may grow
    }
)
_PACKAGES = (
    *("blake3", "datatrove", "fastokens", "numba", "numpy", "orjson", "polars", "py3langid"),
    *("pyarrow", "rensa", "spacy", "tldextract"),
)
ROOT = Path(__file__).parent.parent
# `ast` takes a quarter of a second for a hundred modules; a test holds these against it.
_FROM = re.compile(r"^ *from ([\w.]+) import (\([^)]*\)|.*)", re.MULTILINE)
_IMPORT = re.compile(r"^ *import ([\w.]+)", re.MULTILINE)


def code_of(modules: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """BLAKE3 of every module whose code can change what these do, by name.

    Args:
        modules: names, as `pipeline.packing`.
        root: the folder that holds ours.
    """
    found: dict[str, str] = {}
    left = list(modules)
    while left:
        name = left.pop()
        if name not in found and name not in HARMLESS:
            found[name], imports = _read(name, root)
            left += imports
    return dict(sorted(found.items()))


@cache
def _read(name: str, root: Path) -> tuple[str, frozenset[str]]:
    source = (root / f"{name.replace('.', '/')}.py").read_bytes()
    return blake3(source).hexdigest(), imported(source.decode(), root)


def imported(source: str, root: Path = ROOT) -> frozenset[str]:
    """The modules of ours that a source imports, at its top or inside functions."""
    found = set(_IMPORT.findall(source))
    for module, names in _FROM.findall(source):
        found |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
    return _ours(root) & found


@cache
def _ours(root: Path) -> frozenset[str]:
    files = (path for folder in FOLDERS for path in (root / folder).glob("*.py"))
    return frozenset(f"{path.parent.name}.{path.stem}" for path in files)


@cache
def versions() -> dict[str, str]:
    """Versions of the packages whose code determines the dataset's bytes."""
    found = {name: version(name) for name in (*_PACKAGES, "tokenizers")}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
