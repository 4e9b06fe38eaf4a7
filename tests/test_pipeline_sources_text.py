"""Plain text files and web archives: every file and page accounted for."""

import gzip
import io
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import zstandard

from configs.build import BuildConfig
from configs.text_sources import TextSource, WarcSource
from pipeline.build import build
from pipeline.errors import BuildError
from pipeline.sources import resolve
from pipeline.streams import InputFile
from pipeline.text_files import ReadText, into_tasks
from pipeline.warc import ReadWarc


def read(step: Any) -> list[tuple[str, str, int, str | None]]:
    return [(d.id, d.text, d.metadata["origin_row"], d.metadata["reason"]) for d in step(rank=0)]


def text_source(*paths: Path, **rest: Any) -> TextSource:
    return TextSource(kind="text", licence="x", paths=tuple(map(str, paths)), **rest)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_is_a_document(tmp_path: Path, suffix: str) -> None:
    pack: Any = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    contents = [b"\xef\xbb\xbfFirst\r\nline\n", b" \n", b"caf\xe9", "a real \ufffd".encode()]
    files = []
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.txt{suffix}").write_bytes(pack(content[:2]) + pack(content[2:]))
        files.append(InputFile(str(tmp_path / f"{i}.txt{suffix}"), f"f{i}"))
    assert read(ReadText([files], text_source(tmp_path, id_prefix="t:"))) == [
        ("t:f0", "First\nline", 0, None),
        ("t:f1", "", 0, "empty"),
        ("t:f2", "caf\ufffd", 0, "invalid_unicode"),
        ("t:f3", "a real \ufffd", 0, None),
    ]


def test_a_separator_cuts_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("one\ntwo\n---\n\n---\n--- not\nthree\n---\n")
    step = ReadText([[InputFile(str(path), "t")]], text_source(path, separator="---"))
    assert read(step) == [("t#0", "one\ntwo", 0, None), ("t#5", "--- not\nthree", 5, None)]


def test_many_small_files_make_few_tasks() -> None:
    files = [InputFile(str(i), str(i)) for i in range(5)]
    tasks = into_tasks(files, [20_000_000, 20_000_000, 1, 40_000_000, 5])
    assert tasks == [files[:2], files[2:4], files[4:]]


def test_text_files_are_built(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(f"Text number {i} of a few. " * (i + 1))
    source = text_source(tmp_path / "*.txt").model_dump()
    config = BuildConfig.model_validate(
        {"name": "x", "sources": {"s": source}, "tokenizer": {"vocab_size": 300}}
    )
    built = build(config, tmp_path / "out")
    assert built is not None
    assert built.manifest.sources["s"].funnel[0].documents_in == 3
    with pytest.raises(BuildError, match="source 's': no file matches"):
        resolve("s", text_source(tmp_path / "none.txt"))


def page(*paragraphs: str) -> bytes:
    body = "".join(f"<p>{text}</p>" for text in paragraphs)
    menu = "<nav><a href='/'>Home</a> <a href='/x'>Shop</a></nav>"
    return f"<html><body>{menu}<article><h1>On rivers</h1>{body}</article></body></html>".encode()


RIVERS = [
    f"River number {i} runs from the hills to the sea, past mills, gardens and the old harbour, "
    "and whoever follows it on foot needs a week, good shoes and some patience with the weather."
    for i in range(3)
]


def archive(path: Path, records: list[tuple[str, str | None, bytes]]) -> None:
    """Write records of (type, identified payload type, content)."""
    out = io.BytesIO()
    writer = import_module("warcio.warcwriter").WARCWriter(out, gzip=path.suffix == ".gz")
    headers = import_module("warcio.statusandheaders").StatusAndHeaders
    for number, (kind, mime, content) in enumerate(records):
        http = headers("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.0")
        own = {"WARC-Record-ID": f"<urn:{number}>"}
        own |= {} if mime is None else {"WARC-Identified-Payload-Type": mime}
        record = writer.create_warc_record(
            f"http://site/{number}", kind, payload=io.BytesIO(content), warc_headers_dict=own,
            http_headers=http if kind == "response" else None,
        )  # fmt: skip
        writer.write_record(record)
    path.write_bytes(out.getvalue())


@pytest.fixture
def _extraction() -> None:
    for package in ("magic", "cchardet", "trafilatura", "lxml_html_clean"):
        pytest.importorskip(package, exc_type=ImportError)


@pytest.mark.usefixtures("_extraction")
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_page_of_an_archive_is_a_document(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.warc{suffix}"
    html = page(*RIVERS)
    archive(
        path,
        [
            ("request", None, b"GET / HTTP/1.0\r\n\r\n"),
            ("response", "text/html", html),
            ("response", "application/pdf", b"%PDF-1.5"),
            ("response", None, html),  # the same paragraphs again: they stay
            ("response", "text/html", b""),
            ("conversion", "text/plain", "Text of a WET file, caf\xe9.".encode()),
        ],
    )
    spec = WarcSource(kind="warc", licence="x", paths=(str(path),))
    assert "trafilatura" in resolve("s", spec).pin["extraction"]  # another version, other text
    text = "On rivers\n" + "\n".join(RIVERS)
    assert read(ReadWarc([InputFile(str(path), "a")], spec)) == [
        ("<urn:1>", text, 1, None),
        ("<urn:2>", "", 2, "not_html"),
        ("<urn:3>", text, 3, None),
        ("<urn:4>", "", 4, "empty"),
        ("<urn:5>", "Text of a WET file, caf\xe9.", 5, None),
    ]


@pytest.mark.usefixtures("_extraction")
def test_a_page_that_takes_too_long_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    archive(path, [("response", "text/html", page(*RIVERS * 2000))])
    spec = WarcSource(kind="warc", licence="x", paths=(str(path),), timeout_s=0.01)
    found = read(ReadWarc([InputFile(str(path), "a")], spec))
    assert found == [("<urn:0>", "", 0, "extraction_timeout")]
