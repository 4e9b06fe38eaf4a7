"""The build report: true figures, fair samples, and hostile documents that stay text."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from configs.build import BuildConfig
from configs.pages import clean
from pipeline.build import Built, build
from pipeline.charts import Part, bar, histogram
from pipeline.lengths import lengths
from pipeline.samples import EXTRACT, NUMBER, changes
from tests.helpers import byte_tokenizer

EVIL = (
    '<script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}</div></main>\u202ebad\x07'
)
VOID = {"meta", "link", "br", "img", "rect", "line", "text"}


def essay(i: int) -> str:
    return f"{EVIL} number {i}. " + " ".join(f"the word{i * 7 + k} of it" for k in range(40)) + "."


def config_of(folder: Path) -> BuildConfig:
    texts = {f"a{i}": essay(i) for i in range(30)}
    texts |= {f"short{i}": f"{EVIL} {i}"[: 90 + i % 3] for i in range(15)}
    texts["a<b>&"] = essay(100) + "\nWrite to ann@mill.org or call me."
    texts["menu"] = "Home | <b>About</b>\n" + essay(101)
    texts["near"] = essay(5).replace("word40", "werd40")
    texts["same"] = essay(6)
    url = "https://a.org/?<script>alert(3)</script>"
    lines = [json.dumps({"id": key, "text": text, "url": url}) for key, text in texts.items()]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n{broken", encoding="utf-8")
    byte_tokenizer().save(str(folder / "bytes.json"))
    source = {
        "kind": "jsonl", "licence": "<i>CC0</i>", "paths": [str(folder / "texts.jsonl")],
        "id": "id", "url": "url", "profile": "math", "edits": ["c4_lines", "pii"],
    }  # fmt: skip
    values: dict[str, Any] = {"name": "<h1>evil</h1>", "sources": {"s": source}}
    values["tokenizer"] = {"file": str(folder / "bytes.json")}
    return BuildConfig.model_validate(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    result = build(config_of(folder), folder / "out")
    assert result is not None
    return result


@pytest.fixture(scope="module")
def page(built: Built) -> str:
    return built.page.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects elements and text; complains about elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID or tag == "text":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID or tag == "text":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(re.sub(r"<rect([^>]*)>(.*?)</rect>", r"\2", page))
    reader.close()
    assert reader.open == []
    return reader


def test_hostile_documents_stay_text(page: str) -> None:
    reader = read(page)
    assert not {"script", "img", "b>", "link", "iframe"} & reader.tags
    assert not {name for name in reader.attributes if name.startswith("on")}
    assert "\u202e" not in page
    assert "\x07" not in page
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert "src=x" in reader.text
    assert "http" not in re.sub("https://a.org|http-equiv", "", page)  # no network
    assert clean("a\u2067b\x1b[0mc\nd") == "a\ufffdb\ufffd[0mc\nd"


def figures(page: str, rule: str, tag: str) -> tuple[int, int]:
    """Documents and tokens that the page tells of a rule."""
    number = r'<span class="number \w">([-+\d,]+)</span>'
    start = re.escape(f'<b>{rule} <span class="tag">{tag}</span></b>')
    found = re.search(rf"{start}<svg.*?</svg>{number}{number}", page)
    assert found is not None, rule
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def test_figures_are_those_of_the_manifest(built: Built, page: str) -> None:
    text = " ".join(read(page).text.split())
    assert f"Dataset {built.manifest.dataset_id}" in text
    facts = built.manifest.sources["s"]
    read_stage, filtered, dedup, _ = facts.funnel
    assert f"{read_stage.documents_in} documents" in text
    for stage in (read_stage, filtered, dedup):
        for reason, dropped in stage.dropped.items():
            assert figures(page, reason, stage.stage) == (dropped.documents, -(dropped.tokens or 0))
    edit = filtered.edited["c4_lines"]
    assert edit.documents == 1
    assert figures(page, "c4_lines", "edited") == (1, -edit.tokens_removed)
    assert "profile math" in text


def test_samples_are_drawn_by_hash_and_limited(built: Built, page: str) -> None:
    (rule,) = re.findall(r"(?s)<b>c4_lines_left_nothing <span.*?</details>", page)
    assert len(re.findall('class="sample"', rule)) == NUMBER
    rows = pl.read_parquet(next(built.page.parent.glob("encode-*/00000.parquet")))
    dropped = rows.filter(pl.col("reason") == "c4_lines_left_nothing").unique("content_hash")
    lowest = dropped.sort("content_hash")["doc_id"].head(NUMBER).to_list()
    assert re.findall(r"<cite>(\w+) ", rule) == lowest
    shown = [re.sub("<[^>]*>", "", p) for p in re.findall(r'(?s)<p class="text">(.*?)</p>', page)]
    assert max(len(text) for text in shown) < 2.5 * EXTRACT  # escapes are longer than what they say


def test_edits_and_near_duplicates_show_both_sides(page: str) -> None:
    assert "<del>ann@mill.org</del>" in page
    assert "<ins>email@example.com" in page or "<ins>firstname.lastname@example.org" in page
    assert "<del>Home | &lt;b&gt;About&lt;/b&gt;<i>¶</i> </del>" in page
    assert "werd40" in page
    assert "repeats a5 (s), " in page
    assert "repeats a6 (s), 100%" in page


def test_a_missing_or_older_page_is_written_again(folder: Path, built: Built, page: str) -> None:
    for damage in (built.page.unlink, lambda: built.page.write_text("of another dataset")):
        damage()
        again = build(config_of(folder), folder / "out")
        assert again is not None
        assert again.reused
        assert built.page.read_text(encoding="utf-8") == page


def test_without_the_work_directory_figures_are_left(
    folder: Path, built: Built, tmp_path: Path
) -> None:
    shutil.copytree(built.path, tmp_path / "out")
    again = build(config_of(folder), tmp_path / "out")
    assert again is not None
    text = again.page.read_text(encoding="utf-8")
    assert "There are no samples" in text
    assert "gopher" not in text
    read(text)


def test_changes_are_shown_around_the_first_difference() -> None:
    left, right = changes("before", "one two three", "after", "one 2 three")
    assert left.segments == [("one ", ""), ("two", "del"), (" three", "")]
    assert right.segments == [("one ", ""), ("2", "ins"), (" three", "")]
    assert left.starts
    assert left.ends
    long = "".join(f"word{i} " for i in range(500))
    left, right = changes("before", f"{long}x {long}", "after", long + long)
    assert not left.starts
    assert not left.ends
    assert sum(len(text) for text, _ in left.segments) == EXTRACT
    assert [text for text, kind in left.segments if kind == "del"] == [" x"]
    same = changes("kept", "a b", "dropped", "a b")
    assert [shown.segments for shown in same] == [[("a b", "")]] * 2


def test_lengths_are_exact(tmp_path: Path) -> None:
    counts = [[1, 2, 3, 4, 100], [100, 100, 1000]]
    paths = [tmp_path / f"{i}.parquet" for i in range(2)]
    for path, column in zip(paths, counts, strict=True):
        pl.DataFrame({"char_count": column}).write_parquet(path)
    found = lengths(paths, "char_count")
    assert (found.documents, found.longest, found.quantiles) == (8, 1000, (1, 4, 1000))
    assert found.mean == 1310 / 8
    assert found.bars == {0: 1, 2: 1, 3: 1, 4: 1, 13: 3, 19: 1}  # 2^6.5 to 2^7; 2^9.5 to 2^10


def test_charts_are_well_formed() -> None:
    picture = bar([Part("a<b", 1, "tone1"), Part("c", 3, "tone2")], 8)
    assert '<rect class="tone2" x="12.500%" width="37.500%" height="100%">' in picture
    assert "a&lt;b: 1" in picture
    assert "NaN" not in bar([Part("none", 0, "tone1")], 0)
    plot = histogram([("1 to 2", 5), ("2 to 4", 0)], [(0.0, "1"), (1.0, "2")])
    assert plot.count("<rect") == 2
    assert 'height="0.0"' in plot
