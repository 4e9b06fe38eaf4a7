"""Reading text: docstrings, files in a wheel, JSON lines, Parquet; every row accounted for."""

import gzip
import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from datatrove.pipeline.base import PipelineStep

from configs.text_sources import JsonlSource, ParquetSource, WheelFile
from pipeline.docstrings import PackageFiles, ReadDocstrings, count_unreadable, find_package
from pipeline.documents import DocumentFile, document, read_rows, task_file
from pipeline.errors import BuildError
from pipeline.sources import resolve
from pipeline.streams import InputFile
from pipeline.tables import ReadJsonl, ReadParquet
from pipeline.wheel_text import ReadWheelText, cut

MODULE = '''"""What the module
    is for."""

import os

class Shape:
    """A shape."""

    @property
    def area(self):
        """The area."""

    @area.setter
    def area(self, value):
        """Set the area."""

    def plain(self): ...

if os.name == "posix":
    def only_here():
        r"""On \\alpha systems."""
else:
    async def only_there():
        "Elsewhere."

try:
    import fast
except ImportError:
    def slow():
        """Slow \\ud800 way."""

raise SystemExit("this file must never be imported")
"""Not a docstring."""
'''


def extracted(step: PipelineStep) -> list[tuple[str, str, int, str | None]]:
    return [(d.id, d.text, d.metadata["origin_row"], d.metadata["reason"]) for d in step(rank=0)]


def test_docstrings_of_a_file_with_ids_lines_and_reasons(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "p/broken.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "p/nul.py").write_bytes(b"x = 1\0")
    files = PackageFiles("p==1.0", str(tmp_path), ("p/a.py", "p/broken.py", "p/nul.py"))
    found = extracted(ReadDocstrings([[files]], tmp_path / "notes"))
    assert found == [
        ("p==1.0/p/a.py::<module>", "What the module\nis for.", 0, None),
        ("p==1.0/p/a.py::Shape", "A shape.", 6, None),
        ("p==1.0/p/a.py::Shape.area", "The area.", 10, None),
        ("p==1.0/p/a.py::Shape.area@15", "Set the area.", 14, None),
        ("p==1.0/p/a.py::only_here", "On \\alpha systems.", 20, None),
        ("p==1.0/p/a.py::only_there", "Elsewhere.", 23, None),
        ("p==1.0/p/a.py::slow", "Slow ? way.", 29, "invalid_unicode"),
    ]
    assert sum(count_unreadable(tmp_path / "notes").values()) == 2


def test_package_pin_names_version_and_bytes() -> None:
    files, pin = find_package("mpmath", frozenset({"tests"}))
    assert files.package == f"mpmath=={version('mpmath')}"
    assert "mpmath/libmp/libelefun.py" in files.paths
    assert not any("/tests/" in path for path in files.paths)
    assert (pin["files"], len(str(pin["blake3"]))) == (len(files.paths), 64)
    with pytest.raises(BuildError, match="'no-such-package' is not installed"):
        find_package("no-such-package", frozenset())


@pytest.mark.parametrize(
    ("text", "fields", "pieces"),
    [
        ("one\n\n two \n", {"format": "lines"}, [("one", 0, None), ("two", 2, None)]),
        (
            '<doc id="7" url="u" title="T">\nT\n\nBody.\n\n</doc>\n<doc id="8" url="v" title="E">\n'
            "</doc>\n",
            {"format": "doc_tags"},
            [("T\n\nBody.", 0, "u"), ("", 6, "v")],
        ),
        (
            "a\nb\n<END>\n<END>\nc",
            {"format": "separated", "separator": "<END>"},
            [("a\nb", 0, None), ("c", 4, None)],
        ),
    ],
)
def test_wheel_text_formats(
    text: str, fields: dict[str, Any], pieces: list[tuple[str, int, str | None]]
) -> None:
    found = cut(text, WheelFile(path="x", **fields))
    assert [(piece.text, piece.line, piece.url) for piece in found] == pieces


def test_sections_break_at_headings_only_and_lose_nothing() -> None:
    paragraph = "A sentence of some length that goes on. " * 30
    text = f"{paragraph}\nHistory\n{paragraph}\n{paragraph}\nNot a heading.\nEarly works\nend"
    found = list(cut(text, WheelFile(path="x", format="sections")))
    assert [piece.line for piece in found] == [0, 5]
    assert found[1].text == "Early works\nend"
    assert "\n".join(piece.text for piece in found).split() == text.split()


def test_wheel_members_become_documents(tmp_path: Path) -> None:
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("w/t.txt", "first\nsecond\n")
    file = WheelFile(path="w/t.txt", format="lines")
    assert extracted(ReadWheelText(wheel, "w==1", (file,))) == [
        ("w==1/w/t.txt::line-1", "first", 0, None),
        ("w==1/w/t.txt::line-2", "second", 1, None),
    ]
    missing = WheelFile(path="w/other.txt", format="lines")
    with pytest.raises(BuildError, match=r"has no file 'w/other.txt'; it has w/t.txt"):
        extracted(ReadWheelText(wheel, "w==1", (missing,)))


LINES = [
    b'{"text": "alpha", "key": "a"}',
    b"{broken",
    b'{"text": "", "key": "c"}',
    b'{"text": null, "key": "d"}',
    b'{"text": "\xff", "key": "e"}',
    b'{"text": "omega", "key": 6}',
]
ROWS = [
    ("a", "alpha", 0, None),
    ("FILE#1", "{broken", 1, "invalid_json"),
    ("c", "", 2, "empty"),
    ("d", "", 3, "empty"),
    ("FILE#4", '{"text": "\ufffd", "key": "e"}', 4, "invalid_json"),
    ("6", "omega", 5, None),
]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_every_json_line_is_a_document(tmp_path: Path, suffix: str) -> None:
    pack: Any = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"t.jsonl{suffix}"
    # Two compressed frames, as parallel compressors write: the second must not be lost.
    path.write_bytes(pack(b"\n".join(LINES[:3]) + b"\n") + pack(b"\n".join(LINES[3:]) + b"\n"))
    spec = JsonlSource(kind="jsonl", licence="x", paths=(str(path),), id="key")
    wanted = [(key.replace("FILE", str(path)), *rest) for key, *rest in ROWS]
    assert extracted(ReadJsonl([InputFile(str(path), str(path))], spec)) == wanted


def test_parquet_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    pl.DataFrame({"body": ["x", None, "", "y"], "link": ["u", "v", None, None]}).write_parquet(path)
    spec = ParquetSource(
        kind="parquet", licence="x", paths=(path,), text="body", url="link", id_prefix="p:"
    )
    found = list(ReadParquet([InputFile(path, path)], spec)(rank=0))
    assert [(d.id, d.text, d.metadata["url"], d.metadata["reason"]) for d in found] == [
        (f"p:{path}#0", "x", "u", None),
        (f"p:{path}#1", "", "v", "empty"),
        (f"p:{path}#2", "", None, "empty"),
        (f"p:{path}#3", "y", None, None),
    ]


def test_columns_are_joined_scored_and_limited(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    rows = {
        "q": ["Q0", "Q1", None, "Q3", "Q4", "Q5"],
        "a": ["A0", "", "", "A3", "A4", "A5"],
        "score": [3.0, 4.0, 5.0, 2.9, None, 9.0],
    }
    pl.DataFrame(rows).write_parquet(path)
    spec = ParquetSource(
        kind="parquet", licence="x", paths=(path,), text=("q", "a"), joiner="\n",
        min_scores={"score": 3}, max_rows=5,
    )  # fmt: skip
    found = [rest for _, *rest in extracted(ReadParquet([InputFile(path, "name")], spec))]
    assert found == [
        ["Q0\nA0", 0, None],
        ["Q1", 1, None],
        ["", 2, "empty"],
        ["Q3\nA3", 3, "low_score"],
        ["Q4\nA4", 4, "low_score"],
    ]
    words = spec.model_copy(update={"min_scores": {"q": 3}})
    with pytest.raises(BuildError, match="name, row 0: 'q' is of type str, not a number"):
        extracted(ReadParquet([InputFile(path, "name")], words))


def test_table_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"body": "x"}) + "\n" + json.dumps({"body": 3}), encoding="utf-8")
    spec = JsonlSource(kind="jsonl", licence="x", paths=(str(path),))
    with pytest.raises(BuildError, match="row 0: no column 'text'; there are 'body'"):
        extracted(ReadJsonl([InputFile(str(path), str(path))], spec))
    with pytest.raises(BuildError, match="row 1: 'body' is of type int, not text"):
        extracted(
            ReadJsonl([InputFile(str(path), str(path))], spec.model_copy(update={"text": "body"}))
        )
    with pytest.raises(BuildError, match="source 's': no file matches"):
        resolve("s", spec.model_copy(update={"paths": (str(tmp_path / "*.none"),)}))
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    table = ParquetSource(kind="parquet", licence="x", paths=(str(tmp_path / "t.parquet"),))
    with pytest.raises(BuildError, match="not readable as Parquet"):
        resolve("s", table)


def test_document_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = task_file(tmp_path, 3)

    def fail_halfway() -> None:
        with DocumentFile(path) as file:
            file.add(document("a", "text", "f", 0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with DocumentFile(path) as file:
        file.add(document("a", "tëxt", "f", 0), "why")
    (row,) = read_rows(path)
    assert (row["characters"], row["bytes"], row["reason"], path.name) == (
        4, 5, "why", "00003.parquet",
    )  # fmt: skip
