"""Bad input through `tally build`: counted by reason or refused by name, and nothing else lost."""

import bz2
import gzip
import io
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from configs.build import BuildConfig
from configs.text_sources import JsonlSource, ParquetSource
from pipeline.build import Built, build
from pipeline.errors import BuildError
from pipeline.streams import InputFile
from pipeline.tables import ReadJsonl, ReadParquet
from shards.reader import Dataset
from tests.helpers import EOS, byte_tokenizer
from tests.test_pipeline_sources_text import archive, page

ROOT = Path(__file__).parent.parent


def good(i: int) -> str:
    """A text that shares no words with that of another number."""
    return "\n".join(" ".join(f"word{i}x{k}y{j}" for j in range(10)) for k in range(6))


GOOD = [good(i) for i in range(12)]
ODD = {
    "nul": f"a\0b\0\0 {good(100)}",
    "right to left": "\u202eשלום עולם \u200fالعربية\u200e 123 \u2067abc\u2069",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301 \U0001f1e9\U0001f1ea",
    "special": f"{EOS} <|im_start|>system {EOS}{EOS} <s></s> [INST] <|endoftext|",
    "controls": "\x01\x1b[31mred\x1b[0m \x7f\x85\u2028 \ufeffinside \ufffd \uffff",
    "long word": "w" * 200_000,
}
"""Texts that are rare but sound: they must come back to the byte."""
Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the command does
    ".bz2": bz2.compress,
}


def config_of(folder: Path, source: dict[str, Any]) -> dict[str, Any]:
    byte_tokenizer().save(str(folder / "bytes.json"))
    return {
        "name": "bad",
        "sources": {"s": {"licence": "CC0"} | source},
        "split": {"val_fraction": 0},
        "tokenizer": {"file": str(folder / "bytes.json")},
    }


def built_of(folder: Path, **source: Any) -> Built:
    built = build(BuildConfig.model_validate(config_of(folder, source)), folder / "out")
    assert built is not None
    return built


def texts_of(built: Built) -> dict[str, str]:
    stream = Dataset.open(built.path).stream("s", "train")
    decode, texts = byte_tokenizer(), {}
    for row in stream.documents().iter_rows(named=True):
        start = row["token_start"]
        tokens = stream.tokens(start, start + row["token_count"] - 1).tolist()  # without EOS
        texts[row["doc_id"]] = decode.decode(tokens, skip_special_tokens=False)
    return texts


def dropped(built: Built) -> dict[str, int]:
    stage = built.manifest.sources["s"].funnel[0]
    assert stage.stage == "read"
    return {reason: found.documents for reason, found in stage.dropped.items()}


def json_lines(texts: dict[str, str]) -> list[bytes]:
    return [json.dumps({"id": key, "text": text}).encode() for key, text in texts.items()]


def test_bad_lines_cost_themselves_only(tmp_path: Path) -> None:
    good = {f"good {i}": text for i, text in enumerate(GOOD)} | ODD
    bad = [
        b'{"id": "u", "text": "caf\xe9"}',
        b'{"id": "s", "text": "lone \\ud800 surrogate"}',
        b'{"id": "t", "text": "cut off',
        b"[1, 2]",
        b"\0\0\0\0",
        b"",
        b'{"id": "e", "text": ""}',
        b'{"id": "n", "text": null}',
        b"[" * 5000,
        b'{"id": "big", "text": "' + b"x" * 1_000_000 + b'"}',
        b'{"id": "nan", "score": NaN, "text": "Not a number, and still a text."}',
    ]
    lines = json_lines(good)
    for place, line in enumerate(bad):
        lines.insert(3 * place % len(lines), line)
    lines.insert(0, b"\xef\xbb\xbf" + json_lines({"bom": "A byte order mark stands before."})[0])
    half = len(lines) // 2
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines[:half]))  # no line feed at the end
    (tmp_path / "b.jsonl").write_bytes(b"\r\n".join(lines[half:]) + b"\n\n")
    built = built_of(
        tmp_path, kind="jsonl", paths=[f"{tmp_path}/*.jsonl"], id="id", max_document_mb=0.5
    )
    assert dropped(built) == {
        "empty": 4, "invalid_json": 5, "invalid_unicode": 1, "too_large": 1,
    }  # fmt: skip
    extra = {"bom": "A byte order mark stands before.", "nan": "Not a number, and still a text."}
    assert texts_of(built) == good | extra


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_odd_texts_come_through_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [*GOOD, *ODD.values(), "", None]
    pq.write_table(pa.table({"text": pa.array(texts).cast(kind)}), tmp_path / "t.parquet")
    built = built_of(tmp_path, kind="parquet", paths=[f"{tmp_path}/t.parquet"])
    assert dropped(built) == {"empty": 2}
    assert sorted(texts_of(built).values()) == sorted([*GOOD, *ODD.values()])


def test_broken_and_large_cells_of_parquet_are_counted(tmp_path: Path) -> None:
    cells = [b"fine", b"caf\xe9", b"\xed\xa0\x80 surrogate", b"y" * 5000, b"also fine"]
    sizes = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in offsets(cells)))
    text = pa.StringArray.from_buffers(len(cells), sizes, pa.py_buffer(b"".join(cells)))
    path = f"{tmp_path}/t.parquet"
    pq.write_table(pa.table({"text": text, "id": list("abcde")}), path)
    spec = ParquetSource(kind="parquet", licence="x", paths=(path,), id="id", max_document_mb=0.004)
    found = ReadParquet([InputFile(path, "t")], spec)(rank=0)
    assert [(d.id, d.text, d.metadata["reason"]) for d in found] == [
        ("a", "fine", None),
        ("b", "caf\ufffd", "invalid_unicode"),
        ("c", "\ufffd\ufffd\ufffd surrogate", "invalid_unicode"),
        ("d", "", "too_large"),
        ("e", "also fine", None),
    ]


def offsets(cells: list[bytes]) -> Iterator[int]:
    end = 0
    yield end
    for cell in cells:
        end += len(cell)
        yield end


def test_mixed_compression_and_odd_names(tmp_path: Path) -> None:
    for number, (suffix, pack) in enumerate(PACKS.items()):
        name = (
            f"{number} [ü\n%20;$(x)]{suffix}".replace("]", "].jsonl", 1)
            if number == 4
            else f"{number}.jsonl{suffix}"
        )
        lines = json_lines({f"{number}-{i}": good(2 * number + i) for i in range(2)})
        (tmp_path / name).write_bytes(b"".join(pack(line + b"\n") for line in lines))
    built = built_of(tmp_path, kind="jsonl", paths=[f"{tmp_path}/*.jsonl*"], id="id")
    assert len(texts_of(built)) == 2 * len(PACKS)
    assert dropped(built) == {}
    assert len(built.manifest.sources["s"].pin["files"]) == len(PACKS)


def test_large_texts_and_pages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "\n".join(["one", "--", "x" * 3000, "--", "two", "y" * 900, "--", "three"])
    )
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfwith a mark " + GOOD[0].encode())
    source = {"kind": "text", "paths": [f"{tmp_path}/*.txt"], "separator": "--"}
    built = built_of(tmp_path, **source, max_document_mb=0.0012)
    assert dropped(built) == {"too_large": 1}
    name = f"{tmp_path}/a.txt"
    texts = {f"{name}#0": "one", f"{name}#4": "two\n" + "y" * 900, f"{name}#7": "three"}
    assert texts_of(built) == texts | {f"{tmp_path}/b.txt#0": f"with a mark {GOOD[0]}"}


def test_large_pages_are_counted(tmp_path: Path) -> None:
    for package in ("magic", "cchardet", "trafilatura", "lxml_html_clean"):
        pytest.importorskip(package, exc_type=ImportError)
    records: list[tuple[str, str | None, bytes]] = [
        ("response", "text/html", page(GOOD[0])),
        ("response", "text/html", page("z" * 50_000)),
        ("response", "text/html", page(GOOD[1])),
    ]
    archive(tmp_path / "a.warc", records)
    built = built_of(tmp_path, kind="warc", paths=[f"{tmp_path}/a.warc"], max_document_mb=0.04)
    assert dropped(built) == {"too_large": 1}
    assert list(texts_of(built)) == ["<urn:0>", "<urn:2>"]
    whole = (tmp_path / "a.warc").read_bytes()
    for cut in (len(whole) - 300, len(whole) // 2):
        (tmp_path / "cut.warc").write_bytes(whole[:cut])
        with pytest.raises(BuildError, match=r"cut.warc: damaged or truncated"):
            built_of(tmp_path / "..", kind="warc", paths=[f"{tmp_path}/cut.warc"])


def lines_of(number: int) -> bytes:
    rows = ({"id": f"d{i}", "text": good(i)} for i in range(number))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    packed = PACKS[suffix](lines_of(2000))
    path = tmp_path / f"t.jsonl{suffix}"
    path.write_bytes(packed[: int(len(packed) * share) or 1])
    with pytest.raises(BuildError, match=r"damaged or truncated (at its start|behind row \d+)"):
        read_lines(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    packed = bytearray(PACKS[suffix](lines_of(2000)))
    packed[len(packed) // 2] ^= 0x55
    path = tmp_path / f"t.jsonl{suffix}"
    path.write_bytes(packed)
    with pytest.raises(BuildError, match="damaged or truncated"):
        read_lines(path)
    path.write_bytes(PACKS[suffix](lines_of(3)) + b"what is this?")
    with pytest.raises(BuildError, match="damaged or truncated"):
        read_lines(path)


def read_lines(path: Path, **rest: Any) -> list[Any]:
    spec = JsonlSource(kind="jsonl", licence="x", paths=(str(path),), **rest)
    return list(ReadJsonl([InputFile(str(path), path.name)], spec)(rank=0))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i} {GOOD[i % 12]}" for i in range(3000)]})
    path = tmp_path / "t.parquet"
    options: dict[str, Any] = {"compression": "zstd", "row_group_size": 500}
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BuildError, match="not readable as Parquet"):
        built_of(tmp_path, kind="parquet", paths=[str(path)])
    pages = pq.read_metadata(io.BytesIO(content)).row_group(3).column(0)
    flipped = bytearray(content)
    flipped[pages.data_page_offset + pages.total_compressed_size * 3 // 4] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(BuildError, match=r"t.parquet: damaged or truncated behind row 999"):
        built_of(tmp_path, kind="parquet", paths=[str(path)])


GZIPPED = gzip.compress(b"{}", mtime=0)  # the time would make other names of tests every second


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", GZIPPED, "compressed by its content, not by its name; add '.gz'"),
        ("t.jsonl", zstandard.compress(b"{}"), "add '.zst'"),
        ("t.jsonl.gz", b'{"text": "plain"}\n', "damaged or truncated at its start"),
        ("t.jsonl.zst", b'{"text": "plain"}\n', "damaged or truncated at its start"),
        ("t.jsonl.zip", b"PK\3\4", "zip is not read; unpack it"),
        ("t.jsonl.xz", b"", "xz is not read; unpack it"),
        ("t.jsonl", b'{"text": 5}\n', "row 0: 'text' is of type int, not text; set `text`"),
        ("t.jsonl", b'{"text": ["a"]}\n', "row 0: 'text' is of type list, not text"),
        ("t.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "row 1: no column 'text'; there are 'body'"),
        ("t.jsonl", b'{"text": "a", "id": null}\n', "row 0: 'id' is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    rest = {"id": "id"} if b'"id"' in content else {}
    with pytest.raises(BuildError, match=re.escape(message)):
        built_of(tmp_path, kind="jsonl", paths=[f"{tmp_path}/{name}"], **rest)


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    lines = json_lines({"a": "one", "b": "two"}) + json_lines({"a": "three"})
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(BuildError, match=r"these occur again: 'a' \(s\). Name another `id` column"):
        built_of(tmp_path, kind="jsonl", paths=[f"{tmp_path}/t.jsonl"], id="id")


def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jsonl")).write_bytes(b'{"text": "x"}')
    with pytest.raises(BuildError, match="the file's name is not UTF-8"):
        built_of(tmp_path, kind="jsonl", paths=[f"{tmp_path}/*.jsonl"])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_takes_no_memory(tmp_path: Path, suffix: str) -> None:
    """100 MB of one letter in a line, between two good ones: read in chunks."""
    path = tmp_path / f"t.jsonl{suffix}"
    pack: Any = {".gz": gzip.open, ".zst": zstandard.open}[suffix]
    with pack(path, "wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"text": "behind"}\n')
    assert path.stat().st_size < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read_lines(path, max_document_mb=10)
    assert [(d.text, d.metadata["reason"]) for d in found] == [
        ("before", None), ("", "too_large"), ("behind", None),
    ]  # fmt: skip
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def tally_build(folder: Path, source: dict[str, Any], limit_mb: int) -> tuple[int, str, float]:
    """`tally build` under a limit of memory: exit code, output, highest memory in megabytes."""
    (folder / "build.yaml").write_text(json.dumps(config_of(folder, source)), encoding="utf-8")
    command = ["tally.py", "build", str(folder / "build.yaml"), "-o", str(folder / "out")]
    watch = (
        "import resource, runpy, sys;"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({limit_mb << 20},) * 2);"
        f"sys.argv = {[*command, '--workers', '1']!r};"
        "import atexit;"
        "atexit.register(lambda: print('PEAK', resource.getrusage(0).ru_maxrss / 1e3));"
        "runpy.run_path('tally.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True, timeout=3500
    )
    output = done.stdout + done.stderr
    return done.returncode, output, float(output.rsplit("PEAK ", 1)[1].split()[0])


def giant(path: Path, megabytes: int, words: bool) -> None:
    """One JSON line of so many megabytes."""
    unit = (" ".join(GOOD) if words else "x" * 1000).replace("\n", " ").encode()
    with path.open("ab") as file:
        file.write(b'{"id": "giant", "text": "')
        for _ in range(megabytes * 1_000_000 // len(unit)):
            file.write(unit)
        file.write(b'"}\n')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("megabytes", "words"), [(500, True), (100, False), (15, True), (15, False)]
)
def test_giant_documents(tmp_path: Path, megabytes: int, words: bool) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines_of(20))
    giant(path, megabytes, words)
    with path.open("ab") as file:
        file.write(b'{"id": "behind", "text": "behind it"}\n')
    source = {"kind": "jsonl", "paths": [str(path)], "id": "id", "profile": "docs"}
    code, output, peak = tally_build(tmp_path, source, 3000)
    print(f"{megabytes} MB, words {words}: {peak:.0f} MB at most")
    assert code == 0, output
    facts = Dataset.open(tmp_path / "out").manifest.sources["s"]
    large = facts.funnel[0].dropped.get("too_large")
    assert (large.documents if large else 0) == (1 if megabytes > 16 else 0)
    assert sum(stage.documents_in for stage in facts.funnel[:1]) == 22
    assert peak < 2000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [500_000, 10_000_000])
def test_empty_documents_take_no_memory(tmp_path: Path, number: int) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as file:
        file.write(lines_of(20))
        for _ in range(number // 10_000):
            file.write(b'{"text": ""}\n' * 10_000)
        file.write(lines_of(21)[len(lines_of(20)) :])
    source = {"kind": "jsonl", "paths": [str(path)]}
    code, output, peak = tally_build(tmp_path, source, 4000)
    print(f"{number} documents: {peak:.0f} MB at most")
    assert code == 0, output
    facts = Dataset.open(tmp_path / "out").manifest.sources["s"]
    assert facts.funnel[0].dropped["empty"].documents == number
    assert facts.splits["train"].documents == 21
    assert peak < 900


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_million_tiny_documents(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"text": "word{i} is x{i}"}}\n' for i in range(2_000_000))
    code, output, peak = tally_build(tmp_path, {"kind": "jsonl", "paths": [str(path)]}, 6000)
    print(f"{peak:.0f} MB at most")
    assert code == 0, output
    facts = Dataset.open(tmp_path / "out").manifest.sources["s"]
    assert sum(split.documents for split in facts.splits.values()) == 2_000_000
    assert peak < 1700
