"""What the filter stages leave, file by file: the input of all stages that follow."""

from pathlib import Path
from typing import NamedTuple

from pipeline.documents import task_file
from pipeline.stages import Stage


class Filtered(NamedTuple):
    """The filter stages of a build, in reading order.

    Attributes:
        stages: by source.
    """

    stages: dict[str, Stage]

    @property
    def parts(self) -> list[str]:
        """The source of every file."""
        return [name for name, stage in self.stages.items() for _ in range(stage.num_tasks)]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """What the files' content hangs on, in reading order: tasks have their numbers from it."""
        return keys_of(self.stages)

    def ranks_of(self, source: str) -> range:
        """The tasks that hold a source, in the stages whose tasks cover all sources."""
        first = self.parts.index(source)
        return range(first, first + self.stages[source].num_tasks)

    def files(self, folder: str = "kept") -> list[Path]:
        """The files in a folder of the stages."""
        return [
            task_file(stage.directory / folder, rank)
            for stage in self.stages.values()
            for rank in range(stage.num_tasks)
        ]

    def named_files(self) -> list[tuple[str, Path]]:
        """The files of what is kept, each with its source."""
        return list(zip(self.parts, self.files(), strict=True))

    def weights(self) -> list[float]:
        """Megabytes of text in every file."""
        kept = [(stage.facts() or {})["kept"] for stage in self.stages.values()]
        return [characters / 1e6 for facts in kept for _, characters in facts["tasks"]]


def keys_of(stages: dict[str, Stage]) -> list[tuple[str, str]]:
    """Names and keys of stages; a list, since the order is a part of what a stage reads."""
    return [(name, stage.key) for name, stage in stages.items()]
