"""Files that come with the package: configurations and pages, in a checkout and in a wheel.

`configs/mixes/x.yaml` on a command line is the file of that path, or ours where there is none.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

CONFIGS = Path(__file__).parent
_FOLDER = CONFIGS.name
_MOST_ENTRIES, _MOST_DEPTH = 2000, 4
_OF_OTHER_KINDS = (f"{_FOLDER}/eval/", f"{_FOLDER}/sources/")


def located(path: Path) -> Path:
    """A configuration's path, that of the shipped one where there is no file of this name."""
    if path.parts[:1] == (_FOLDER,) and not path.exists():
        ours = CONFIGS.joinpath(*path.parts[1:])
        return ours if ours.is_file() else path
    return path


def located_page(name: str) -> Path:
    """A page of the documentation, or another file that stands beside `configs` in a checkout."""
    inside = CONFIGS / name  # where the wheel has it
    return inside if inside.exists() else CONFIGS.parent / name


def schema_file(name: str) -> Path:
    """The shipped JSON Schema of one kind of file."""
    return CONFIGS / "schemas" / f"{name}.json"


def complete_config(incomplete: str) -> list[str]:
    """Shell completion: YAML files below the folder that is being typed, and the shipped ones."""
    folder, _, _ = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else "."))
    here = islice(_entries(base), _MOST_ENTRIES)
    found = {str(path) for path in here if path.suffix in (".yaml", ".yml")}
    found |= {str(Path(_FOLDER) / path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    fitting = {path for path in found if path.startswith(incomplete)}
    return sorted(path for path in fitting if not path.startswith(_OF_OTHER_KINDS))


def _entries(base: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(base):
        deep = len(Path(folder).relative_to(base).parts) >= _MOST_DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if not f.startswith((".", "_")))
        yield from (Path(folder) / file for file in [*folders, *files])
