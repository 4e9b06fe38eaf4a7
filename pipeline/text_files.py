"""Plain text files: one document a file, or cut where a line is the separator."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.build import TextSource
from pipeline.documents import document
from pipeline.streams import InputFile, check_unchanged, open_stream
from pipeline.task_report import tracked

_TASK_BYTES = 32_000_000  # decides how many tasks there are, whatever the workers


class Block(NamedTuple):
    """The bytes of a document and the line it starts at, from 0."""

    content: bytes
    line: int


class ReadText(PipelineStep):
    """Yields the documents of the text files of a task."""

    type = "📖 - READER"
    name = "text"

    def __init__(self, tasks: list[list[InputFile]], spec: TextSource) -> None:
        super().__init__()
        self.tasks, self.spec = tasks, spec

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of task `rank`."""
        for file in tracked(self.tasks[rank], len(self.tasks[rank])):
            check_unchanged(file)
            with ExitStack() as stack:
                for block in blocks(open_stream(file.path, stack), self.spec.separator):
                    yield self._document(file, block)

    def _document(self, file: InputFile, block: Block) -> Document:
        key = file.name if self.spec.separator is None else f"{file.name}#{block.line}"
        text = block.content.decode("utf-8", "replace").removeprefix("\ufeff")
        text = text.replace("\r\n", "\n").strip()
        reason = None if text else "empty"
        if "\ufffd" in text and not _is_utf8(block.content):
            reason = "invalid_unicode"
        return document(f"{self.spec.id_prefix}{key}", text, file.name, block.line, None, reason)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def blocks(lines: Iterable[bytes], separator: str | None) -> Iterator[Block]:
    """The whole file, or its parts between separator lines; parts of nothing but space are none."""
    start, block = 0, list[bytes]()
    for number, line in enumerate(lines):
        if separator is not None and line.strip() == separator.encode():
            if any(map(bytes.strip, block)):
                yield Block(b"".join(block), start)
            start, block = number + 1, []
        else:
            block.append(line)
    if separator is None or any(map(bytes.strip, block)):
        yield Block(b"".join(block), start)


def into_tasks(files: Sequence[InputFile], sizes: Sequence[int]) -> list[list[InputFile]]:
    """Put files, in order, into tasks of about the same size."""
    tasks: list[list[InputFile]] = [[]]
    room = _TASK_BYTES
    for file, size in zip(files, sizes, strict=True):
        if room < 0:
            tasks.append([])
            room = _TASK_BYTES
        tasks[-1].append(file)
        room -= size
    return tasks
