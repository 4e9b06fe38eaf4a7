"""The card in a real browser: no error, no foreign script runs, tables sort, nothing overflows."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.tiny_run import make_run
from train.card import write_card
from train.process import prepare_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium, as Debian packages it")
EVIL = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """card.html of a run whose every text is hostile."""
    prepare_process()
    run_dir = make_run(tmp_path_factory.mktemp("hostile"), num_steps=12)
    (run_dir / "config.yaml").write_text(
        yaml.safe_dump({"name": EVIL, "engine": {"precision": EVIL}})
    )
    sample = {"source": EVIL, "prompt": EVIL, "text": f"</blockquote></style>{EVIL}\u202e"}
    (run_dir / "eval").mkdir()
    (run_dir / "eval" / "generations.json").write_text(json.dumps({"samples": [sample]}))
    scores = {"arc": 0.31, "boolq": 0.62, "copa": 0.55}
    for task, value in scores.items():
        result = {"metrics": {"acc": {"value": value, "stderr": 0.01}}, "headline": "acc"}
        result |= {"items": {"in_split": 9, "scored": 9}, "data": {"split": EVIL}}
        (run_dir / "eval" / f"{task}.json").write_text(json.dumps(result))
    return write_card(run_dir) / "card.html"


def show(page: Path, *options: str) -> tuple[str, list[str]]:
    """The document as the browser has it in the end, and what its console said."""
    assert CHROMIUM
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=2000"]
    command += [*options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_hostile_text_does_nothing(card: Path) -> None:
    document, said = show(card)
    assert said == []
    assert "hacked</title>" not in document
    assert "<img" not in document
    assert document.count("<script") == 1
    assert "\u202e" not in document


def test_a_script_put_in_by_hand_is_not_run(card: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(card.read_text().replace("<footer>", EVIL.replace("src=x ", "") + "<footer>"))
    document, said = show(page)
    assert "hacked</title>" not in document
    assert any("Content Security Policy" in line for line in said)


def with_script(card: Path, folder: Path, script: str) -> Path:
    """A copy whose policy lets one more script run, at the end."""
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", card.read_text())
    page = folder / "page.html"
    page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return page


def test_tables_sort_by_number(card: Path, tmp_path: Path) -> None:
    script = """
    const buttons = [...document.querySelectorAll("th button")];
    const heading = buttons.find((button) => button.textContent === "task");
    const table = heading.closest("table");
    const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
    const score = table.tHead.querySelectorAll("button")[2];
    score.click(); const rising = order();
    score.click(); const falling = order();
    heading.click();
    document.title = [rising, falling, order()].join(" ");
    """
    document, _ = show(with_script(card, tmp_path, script))
    found = re.search(r"<title>(.*)</title>", document)
    assert found
    assert found[1] == "arc,copa,boolq boolq,copa,arc arc,boolq,copa"


def test_nothing_is_wider_than_a_phone(card: Path, tmp_path: Path) -> None:
    """390 px, as a frame: a headless window cannot be made that narrow."""
    script = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth;"
    inner = with_script(card, tmp_path, script).read_text()
    frame = tmp_path / "frame.html"
    source = inner.replace("&", "&amp;").replace('"', "&quot;")
    frame.write_text(
        f'<iframe width="390" height="800" style="border:0" srcdoc="{source}"></iframe>'
        "<script>addEventListener('load', () => {"
        "document.title = frames[0].document.title; });</script>"
    )
    document, _ = show(frame)
    found = re.search(r"<title>(\d+) of (\d+)</title>", document)
    assert found
    assert int(found[1]) <= int(found[2]) == 390
