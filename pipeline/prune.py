"""The intermediate files of a build: how much room they take, and which can go.

Stages that a configuration does not use any more stay in `<output>.work`, because the
configuration may be changed back. They are deleted only when asked for (`--prune`).
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from configs.terminal import console, human_bytes, short

_STAGE = re.compile(r".+-[0-9a-f]{16}")


def tidy(work: Path, used: Iterable[Path], prune: bool) -> None:
    """Say what the intermediate files take, or delete those that are of no use.

    Args:
        work: the build's directory of intermediate files; nobody else may be using it.
        used: the stages of the present configuration.
        prune: whether to delete the others.
    """
    stages = {path for path in work.iterdir() if path.is_dir() and _STAGE.fullmatch(path.name)}
    unused = stages - set(used)
    old, kept = (human_bytes(_bytes(folders)) for folders in (unused, stages - unused))
    if prune:
        for path in unused:
            shutil.rmtree(path)
        console.print(f"{short(work)}: {old} deleted, {kept} of this configuration kept")
        return
    more = f", and {old} of other configurations, which --prune deletes" if unused else ""
    console.print(f"{short(work)}: {kept} for the next build to reuse{more}", soft_wrap=True)


def _bytes(folders: Iterable[Path]) -> int:
    files = (file for folder in folders for file in folder.rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())
