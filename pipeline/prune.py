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
    mine, others = _files(stages - unused), _files(unused)
    kept = human_bytes(sum(mine.values()))
    old = human_bytes(sum(size for file, size in others.items() if file not in mine))
    if prune:
        for path in unused:
            shutil.rmtree(path)
        console.print(f"{short(work)}: {old} deleted, {kept} of this configuration kept")
        return
    more = f", and {old} of other configurations, which --prune deletes" if unused else ""
    console.print(f"{short(work)}: {kept} for the next build to reuse{more}", soft_wrap=True)


def _files(folders: Iterable[Path]) -> dict[int, int]:
    """Bytes of every file by its inode: stages share some (see `pipeline.reuse`)."""
    facts = (file.stat() for folder in folders for file in folder.rglob("*") if file.is_file())
    return {fact.st_ino: fact.st_size for fact in facts}
