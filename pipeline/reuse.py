"""Steps that make the same files of the same inputs, whatever else a build holds.

`signatures` and `encode` are one stage each over the files of all sources, so another source, or
another filter of one, gives them another key and another directory. But what a task makes depends
on its own inputs only. So it leaves a receipt, named after the hash of these, and a task of the
same stage in another directory that has the same inputs takes the files over, as hard links.
"""

import json
import os
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from pipeline.source_code import code_of, versions
from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_file, blake3_json

_RECEIPTS = "receipts"


class FileByFile(PipelineStep):
    """A step whose tasks take files over where they can.

    Args:
        folder: of the stage, `<work>/<name>-<key>`.
        settings: JSON: what the outputs depend on beside the code, package versions and `inputs`.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        super().__init__()
        self.folder = folder
        code = code_of([type(self).__module__])
        self._made_by = blake3_json({"code": code, "versions": versions(), "settings": settings})

    @abstractmethod
    def inputs(self, rank: int) -> list[Path | str]:
        """What the outputs of a task depend on: files, whose content counts, and values."""

    @abstractmethod
    def outputs(self, rank: int) -> list[Path]:
        """All files that a task makes, in the stage's folder."""

    @abstractmethod
    def make(self, rank: int) -> None:
        """Make them."""

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Make the files of task `rank`, or take them over; yields nothing."""
        inputs = (blake3_file(i) if isinstance(i, Path) else i for i in self.inputs(rank))
        receipt = f"{blake3_json([self._made_by, *inputs])}.json"
        outputs = self.outputs(rank)
        if not _take_over(self.folder, receipt, outputs):
            self.make(rank)
        made = [(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in outputs]
        write_json_atomic(self.folder / _RECEIPTS / receipt, made)
        yield from ()


def has_receipts(stage: Path) -> bool:
    """Whether tasks of the same stage in other directories left any."""
    return any(_others(stage, _RECEIPTS))


def _others(stage: Path, pattern: str) -> list[Path]:
    name, _, _ = stage.name.rpartition("-")
    return sorted(stage.parent.glob(f"{name}-{'[0-9a-f]' * 16}/{pattern}"))


def _take_over(stage: Path, receipt: str, outputs: list[Path]) -> bool:
    """Link the files that a receipt names to be these; whether there is one whose files are."""
    for path in _others(stage, f"{_RECEIPTS}/{receipt}"):
        made = json.loads(path.read_text(encoding="utf-8"))
        found = [path.parent.parent / name for name, _ in made]
        if all(
            f.is_file() and f.stat().st_size == n for f, (_, n) in zip(found, made, strict=True)
        ):
            for source, target in zip(found, outputs, strict=True):
                _link(source, target)
            return True
    return False


def _link(source: Path, target: Path) -> None:
    """Two names of one file, which is never written again; a copy where the disk has no such."""
    if target.exists() and target.samefile(source):  # of a task that was killed, or of this one
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as content, atomic_write(target) as file:
            shutil.copyfileobj(content, file)
