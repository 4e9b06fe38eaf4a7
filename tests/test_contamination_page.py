"""audit.html with hostile content: nothing of it is markup, and nothing is loaded from outside."""

import json
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from configs.audit import SENSITIVITIES
from contamination.audit import Audit, run_audit
from contamination.corpus import open_corpus
from contamination.items import Benchmark, Item
from contamination.page import page
from contamination.report import summary
from contamination.write import write_reports
from shards.hashing import blake3_json

CHROMIUM = shutil.which("chromium")
QUESTION = (
    "Which <script>alert(1)</script> pigment {{script}} in the \u202eleaves of maple \x07 trees "
    "absorbs 'violet' & \"orange\" light <img src=x onerror=alert(2)> mostly during summer?"
)
HOSTILE = "</p></article><script>alert(3)</script><style>body{display:none}</style>"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


class _Texts(HTMLParser):
    """The text of every `<p class="text">`."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p":
            self.inside = ("class", "text") in attrs
            self.texts += [""] if self.inside else []

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def page_of(
    tmp_path: Path,
    rows: list[dict[str, str]],
    question: str = QUESTION,
    hashes_only: bool = False,
) -> str:
    path = tmp_path / "<b>text&.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = (Item(f"{HOSTILE}id", question, HOSTILE), Item(f"tiny{HOSTILE}", "no?", ""))
    result = audited(path, Benchmark("x<y", "test", "made", items), tmp_path)
    written = write_reports(result, tmp_path / "out", path.name, 1.0, (), hashes_only)
    return written.paths[-1].read_text(encoding="utf-8")


def audited(path: Path, benchmark: Benchmark, folder: Path) -> Audit:
    rules, work = SENSITIVITIES["default"], folder / "w"
    return run_audit(open_corpus(path), [benchmark], rules, work, folder / "c")


def test_hostile_documents_stay_text(tmp_path: Path) -> None:
    row = {"text": f"{HOSTILE}\n{QUESTION}\n{HOSTILE}", "id": f'"><script>{HOSTILE}'}
    row |= {"url": 'javascript:alert(4)"onclick="x', "source": f"'{HOSTILE}"}
    text = page_of(tmp_path, [row])
    parser = _Tags()
    parser.feed(text)
    assert parser.tags.count("script") == 1
    assert parser.tags.count("style") == 1
    assert "img" not in parser.tags
    names = {name for name, _ in parser.attributes}
    assert not {name for name in names if name.startswith("on") or name == "src"}
    assert "href" not in names
    assert "<script>alert(1)</script>" in parser.text.replace("\n", "")
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "default-src 'none'" in text


def hostile(name: str) -> str:
    """Ends an element, an attribute, a template's expression; tells in which field it was."""
    return f"""{name}:"'></p><script>{name}()</script>{{{{ 7 * 7 }}}}{{% if %}}&lt;:{name}"""


NAMES = ["benchmark", "split", "item", "twin", "tiny", "question", "answer", "passage"]
NAMES += ["document", "source", "part", "origin", "shard", "text", "title", "limit"]
NAMES += ["task", "metric", "group", "trained", "definition", "rule", "paper", "decided"]


def test_hostile_strings_of_every_field_are_shown_as_they_are(tmp_path: Path) -> None:
    facts, findings = hostile_audit(tmp_path)
    url = f"https://example.org/{hostile('url')}"
    document = findings[0].document._replace(
        split=hostile("part"), origin=hostile("origin"), origin_row=4, url=url,
        shard=hostile("shard"), token_start=0,
    )  # fmt: skip
    best = replace(findings[0], document=document, token_start=1, token_end=2)
    plain = replace(best, document=document._replace(url=f"javascript:{hostile('script')}"))
    twin = replace(best, rank=2, item=replace(best.item, id=hostile("twin")))
    text = page(facts, [best, twin, plain, *findings], hostile("title"))
    parser = _Tags()
    parser.feed(text)
    assert (parser.tags.count("script"), parser.tags.count("h1")) == (1, 1)
    names = {name for name, _ in parser.attributes}
    assert not {name for name in names if name.startswith("on") or name == "src"}
    assert [name for name in NAMES if hostile(name) not in parser.text] == []
    assert f"javascript:{hostile('script')}" in parser.text
    shown = {(name, value) for name, value in parser.attributes}
    assert ("href", url) in shown
    assert {value for name, value in shown if name == "href"} == {url}
    for name in ("benchmark", "source"):
        assert {(f"data-{name}", hostile(name)), ("value", hostile(name))} <= shown


def hostile_audit(tmp_path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The content of audit.json with all of its parts, and the findings."""
    words = [f"{a}{b}" for a in ("river", "mill", "tower") for b in ("bank", "gate", "stone")]
    question = f"{hostile('question')} {' '.join(words)}?"
    passage = f"{hostile('passage')} {' '.join(reversed(words))} above."
    item = Item(hostile("item"), question, hostile("answer"), (), passage)
    benchmark = Benchmark(
        hostile("benchmark"), hostile("split"), "made", (item, Item(hostile("tiny"), "no?", ""))
    )
    content = f"{question} {hostile('text')} {hostile('answer')} {passage}"
    row = {"text": content, "id": hostile("document"), "source": hostile("source")}
    (tmp_path / "text.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    result = audited(tmp_path / "text.jsonl", benchmark, tmp_path)
    facts = summary(result, ())
    mean = {"n": 4, "mean": 0.5, "low": 0.1, "high": 0.9}
    score: dict[str, Any] = dict.fromkeys(("all", "clean", "dirty", "not_audited"), mean) | {
        "task": hostile("task"), "metric": hostile("metric"), "unmatched": 0, "difference": None,
        "by_class": {hostile("group"): mean}, "by_exposure": {}, "curve": [],
    }  # fmt: skip
    seen = {"id": hostile("trained"), "exposure": {"times": 3, "first_step": 1, "last_step": 2}}
    classic = {
        "title": hostile("definition"), "rule": hostile("rule"), "source": hostile("paper"),
        "decided_here": hostile("decided"), "benchmarks": {benchmark.name: {"dirty_items": 1}},
    }  # fmt: skip
    changes = {
        "limits": [hostile("limit")],
        "scores": [score],
        "classic": {"one": classic},
        "items": [facts["items"][0] | seen],
    }
    return facts | changes, list(result.findings)


def test_links_lead_only_to_web_pages(tmp_path: Path) -> None:
    parser = _Tags()
    parser.feed(page_of(tmp_path, [{"text": QUESTION, "url": "https://example.org/?a=1&b=<2>"}]))
    assert ("href", "https://example.org/?a=1&b=<2>") in parser.attributes


def test_a_clean_text_says_so(tmp_path: Path) -> None:
    text = page_of(tmp_path, [{"text": "Nothing of the kind is in this document at all."}])
    assert "None of 2 test items was found in this data." in text
    assert "<article" not in text


def test_hashes_only_quotes_no_text(tmp_path: Path) -> None:
    text = page_of(tmp_path, [{"text": f"Before it. {QUESTION} After it."}], hashes_only=True)
    assert "<article" in text
    for word in ("pigment", "maple", "orange", "Before it", "<mark>"):
        assert word not in text
    for name in ("audit.json", "audit.md"):
        assert "maple" not in (tmp_path / "out" / name).read_text(encoding="utf-8")
    row = pl.read_parquet(tmp_path / "out" / "matches.parquet").row(0, named=True)
    assert row["item_hash"] in text
    assert row["item_hash"] == blake3_json([QUESTION, HOSTILE, (), ""])[:32]


def test_no_extract_is_long(tmp_path: Path) -> None:
    long = " ".join(f"{word}{k}" for k in range(60) for word in ("river", "mill", "tower"))
    parser = _Texts()
    parser.feed(page_of(tmp_path, [{"text": f"{long} {QUESTION} {long}"}], QUESTION + long))
    quoted = [text.removeprefix("question").removeprefix("answer") for text in parser.texts]
    assert len(quoted) == 3
    assert max(map(len, quoted)) <= 300
    assert sum(map(len, quoted[1:])) <= 300


@pytest.mark.skipif(CHROMIUM is None, reason="looks at the page in Chromium, which is not here")
def test_a_browser_runs_the_filters_and_nothing_else(tmp_path: Path) -> None:
    attack = f"{HOSTILE}<svg onload=\"document.title='hit'\">{QUESTION}<script>document.title='hit'"
    rows = [{"text": attack, "source": "one"}, {"text": QUESTION, "source": "two"}]
    page_of(tmp_path, rows)
    dom = _dom(tmp_path / "out" / "audit.html", tmp_path)
    assert "2 of 2 shown" in dom  # the page's own script ran
    assert "<title>Contamination audit" in dom
    parser = _Tags()
    parser.feed(dom)
    assert parser.tags.count("script") == 1
    assert "svg" not in parser.tags
    options = dom.partition('id="filter-source"')[2].partition("</select>")[0]
    assert options.count("<option") == 3
    for name in ("benchmark", "class", "source"):
        assert f'id="filter-{name}"' in dom
    assert "<mark>" in dom


def _dom(page: Path, folder: Path) -> str:
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    result = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    return result.stdout
