"""Web archives: datatrove's reading of records and its trafilatura extraction, every page counted.

Both skip what they cannot use without a word. Here a page that is no HTML, takes too long or
breaks the extraction is a document with a reason. datatrove runs the extraction in a process of
its own, which outlives a killed build, and lets trafilatura drop paragraphs that earlier pages
had, so that the text depends on which process reads what; here it does neither.
"""

import io
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import Any, BinaryIO

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers.warc import process_record

from configs.text_sources import WarcSource
from pipeline.documents import document
from pipeline.errors import BuildError
from pipeline.streams import InputFile, check_unchanged, open_tracked, sound

_ARCHIVED = ("response", "conversion")
"""Records that hold a page, or (in WET files) its text."""
_CHUNK = 1 << 20
_PACKAGES = ("faust-cchardet", "jusText", "lxml", "trafilatura", "warcio")


class _TooLongError(BaseException):
    """Past the time limit; not an Exception, which the extraction would swallow and go on."""


class ReadWarc(PipelineStep):
    """Yields the pages of one archive a task, as text extracted from their HTML."""

    type = "📖 - READER"
    name = "warc"

    def __init__(self, files: Sequence[InputFile], spec: WarcSource) -> None:
        super().__init__()
        self.files, self.spec = files, spec

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of archive `rank`."""
        file = self.files[rank]
        check_unchanged(file)
        yield from sound(file.name, self._pages(file))

    def _pages(self, file: InputFile) -> Iterator[Document]:
        extract = extractor(self.spec)
        with ExitStack() as stack:
            stream, report = open_tracked(file.path, stack)
            for row, record in enumerate(_records(stream)):
                report()
                if record.rec_type in _ARCHIVED:
                    yield self._page(record, row, file, extract)
                _refuse_cut(record)

    def _page(
        self, record: Any, row: int, file: InputFile, extract: Callable[[str], str | None]
    ) -> Document:
        key = f"{self.spec.id_prefix}{record.rec_headers['WARC-Record-ID']}"
        content = _bounded(record.content_stream(), self.spec.max_document_bytes)
        if content is None:
            return document(key, "", file.name, row, _address(record), "too_large")
        record.content_stream = lambda: io.BytesIO(content)
        try:
            found = process_record(record)  # reads the record's content
        except KeyError as error:
            raise EOFError(f"a record without {error}") from None
        if not found:
            return document(key, "", file.name, row, _address(record), "not_html")
        text, reason = found["text"], None
        if record.rec_type == "response":
            text, reason = _extracted(found["text"], extract, self.spec.timeout_s)
        sound = text.encode("utf-8", "replace").decode("utf-8")
        return document(key, sound, file.name, row, found["url"], reason or _flaw(text, sound))


def _records(stream: BinaryIO) -> Iterator[Any]:
    """The records; whatever a damaged one makes warcio stumble over is damage: EOFError."""
    iterator = import_module("warcio.archiveiterator").ArchiveIterator
    broken = import_module("warcio.exceptions").ArchiveLoadFailed
    try:
        yield from iterator(stream)
    except (broken, AttributeError, LookupError, ValueError) as error:
        raise EOFError(f"a record that cannot be read: {error}") from error


def _bounded(stream: Any, most: int) -> bytes | None:
    """All that a stream holds; None where it is more than `most` bytes."""
    content = bytearray()
    while part := stream.read(_CHUNK):
        content += part
        if len(content) > most:
            return None
    return bytes(content)


def _refuse_cut(record: Any) -> None:
    """Raise EOFError where the file ends in the middle of a record, which warcio does not mind."""
    while record.raw_stream.read(_CHUNK):
        pass
    if getattr(record.raw_stream, "limit", 0) > 0:
        raise EOFError("it ends within a record")


def _address(record: Any) -> str | None:
    address: str | None = record.rec_headers.get_header("WARC-Target-URI")
    return address


def _flaw(text: str, sound: str) -> str | None:
    if not text.strip():
        return "empty"
    return None if sound == text else "invalid_unicode"


def extractor(spec: WarcSource) -> Callable[[str], str | None]:
    """Datatrove's extraction of text from HTML.

    Raises:
        BuildError: its packages are not installed.
    """
    try:
        for package in ("cchardet", "magic", "trafilatura", "warcio"):
            import_module(package)  # `magic` finds its C library, or does not
        step = Trafilatura(favour_precision=spec.favour_precision, deduplicate=False)
    except ImportError as error:
        raise BuildError(
            f"reading web archives needs more packages ({' '.join(str(error).split())}): "
            "pip install 'datatrove[io,processing]' lxml_html_clean, and the system's libmagic"
        ) from None
    extract: Callable[[str], str | None] = step.extract
    return extract


def extraction() -> dict[str, str]:
    """Versions of the packages that decide what text a page has, beside datatrove."""
    return {name: version(name) for name in _PACKAGES}


def _extracted(
    html: str, extract: Callable[[str], str | None], limit_s: float
) -> tuple[str, str | None]:
    """The page's text, and the reason where there is none."""
    try:
        with _time_limit(limit_s):
            return extract(html) or "", None
    except _TooLongError:
        return "", "extraction_timeout"
    except Exception:  # whatever a page can do to parsers
        return "", "extraction_failed"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Seconds of this process's own work, so that a busy machine changes nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
