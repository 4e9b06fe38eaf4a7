"""Plain text files: one document a file, or cut where a line is the separator."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.text_sources import TextSource
from pipeline.documents import document
from pipeline.streams import InputFile, bounded_lines, check_unchanged, open_stream, sound
from pipeline.task_report import tracked

_TASK_BYTES = 32_000_000  # decides how many tasks there are, whatever the workers


class Block(NamedTuple):
    """The bytes of a document, None where they are too many, and the line it starts at, from 0."""

    content: bytes | None
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
            yield from sound(file.name, self._documents(file))

    def _documents(self, file: InputFile) -> Iterator[Document]:
        most = self.spec.max_document_bytes
        with ExitStack() as stack:
            lines = bounded_lines(open_stream(file.path, stack), most)
            for block in blocks(lines, self.spec.separator, most):
                yield self._document(file, block)

    def _document(self, file: InputFile, block: Block) -> Document:
        key = file.name if self.spec.separator is None else f"{file.name}#{block.line}"
        content = block.content or b""
        text = content.decode("utf-8", "replace").removeprefix("\ufeff")
        text = text.replace("\r\n", "\n").strip()
        reason = None if text else "empty"
        if block.content is None:
            reason = "too_large"
        elif "\ufffd" in text and not _is_utf8(content):
            reason = "invalid_unicode"
        return document(f"{self.spec.id_prefix}{key}", text, file.name, block.line, None, reason)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def blocks(lines: Iterable[bytes | None], separator: str | None, most: int) -> Iterator[Block]:
    """The whole file, or its parts between separator lines; parts of nothing but space are none.

    Args:
        lines: None for one that is too long.
        separator: the text of a separator line.
        most: bytes of the largest part.
    """
    start, block, size = 0, list[bytes](), 0
    for number, line in enumerate(lines):
        if separator is not None and line is not None and line.strip() == separator.encode():
            yield from _block(block, size, start, most)
            start, block, size = number + 1, [], 0
            continue
        size += most + 1 if line is None else len(line)
        if line is None or size > most:
            block.clear()
        else:
            block.append(line)
    if separator is None and size <= most:
        yield Block(b"".join(block), start)
    else:
        yield from _block(block, size, start, most)


def _block(lines: list[bytes], size: int, start: int, most: int) -> Iterator[Block]:
    if size > most:
        yield Block(None, start)
    elif any(map(bytes.strip, lines)):
        yield Block(b"".join(lines), start)


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
