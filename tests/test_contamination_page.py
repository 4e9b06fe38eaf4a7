"""audit.html with hostile content: nothing of it is markup, and nothing is loaded from outside."""

import json
from html.parser import HTMLParser
from pathlib import Path

from configs.audit import SENSITIVITIES
from contamination.audit import run_audit
from contamination.corpus import open_corpus
from contamination.items import Benchmark, Item
from contamination.write import write_reports

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


def page_of(tmp_path: Path, rows: list[dict[str, str]]) -> str:
    path = tmp_path / "<b>text&.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = (Item(f"{HOSTILE}id", QUESTION, HOSTILE), Item(f"tiny{HOSTILE}", "no?", ""))
    benchmark = Benchmark("x<y", "test", "made", items)
    result = run_audit(
        open_corpus(path), [benchmark], SENSITIVITIES["default"], tmp_path / "w", tmp_path / "c"
    )
    paths = write_reports(result, tmp_path / "out", path.name, 1.0)
    return paths[-1].read_text(encoding="utf-8")


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


def test_links_lead_only_to_web_pages(tmp_path: Path) -> None:
    parser = _Tags()
    parser.feed(page_of(tmp_path, [{"text": QUESTION, "url": "https://example.org/?a=1&b=<2>"}]))
    assert ("href", "https://example.org/?a=1&b=<2>") in parser.attributes


def test_a_clean_text_says_so(tmp_path: Path) -> None:
    text = page_of(tmp_path, [{"text": "Nothing of the kind is in this document at all."}])
    assert "None of 2 test items was found in this data." in text
    assert "<article" not in text
