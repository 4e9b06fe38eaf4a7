"""`tally audit` as a user runs it: a process of its own, files, table, errors."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUESTION = "Which pigment in the leaves of a maple absorbs mostly violet and orange light?"


def tally(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "contamination", "audit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "contamination", "audit", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, str]:
    text, items = tmp_path / "text.jsonl", tmp_path / "items.jsonl"
    # Scanned content is remembered for all audits of a user; this is new in every run.
    new = uuid.uuid4()
    text.write_text(json.dumps({"text": f"{new}\n{QUESTION} Chlorophyll.\nAfter."}))
    items.write_text(json.dumps({"prompt": QUESTION, "answer": "chlorophyll"}))
    return text, f"mine={items}?question=prompt"


def test_an_audit_writes_its_files_and_names_them_last(files: tuple[Path, str]) -> None:
    text, spec = files
    result = tally(text, "-b", spec)
    assert result.returncode == 0, result.stderr
    folder = text.with_name("text.jsonl.audit")
    names = ["audit.json", "matches.parquet", "audit.md", "audit.html"]
    assert result.stdout.splitlines()[-4:] == [str(folder / name) for name in names]
    assert "1 of 1 item found in 1 of 1 document" in result.stdout
    facts = json.loads((folder / "audit.json").read_text())
    assert facts["schema_version"] == 1
    assert facts["totals"]["items_by_class"]["qa"] == 1
    assert json.loads((folder / "audit_log.json").read_text())["scan_mb_per_s"] > 0
    assert "scanned all of 1 piece," in result.stdout
    again = tally(text, "-b", spec)
    assert "scanned 0 of 1 piece (" in again.stdout
    assert "| mine (items) | 1 | 1 | 100.00% | 1 |" in (folder / "audit.md").read_text()


def test_scores_are_split_on_request(files: tuple[Path, str]) -> None:
    text, spec = files
    samples = text.with_name("mine.samples.jsonl")
    samples.write_text(json.dumps({"doc": {"prompt": QUESTION}, "metrics": ["acc"], "acc": 1}))
    result = tally(text, "-b", spec, "--samples", samples, "--hashes-only")
    assert result.returncode == 0, result.stderr
    assert "not enough" in result.stdout
    folder = text.with_name("text.jsonl.audit")
    facts = json.loads((folder / "audit.json").read_text())
    assert [(row["task"], row["dirty"]["n"]) for row in facts["scores"]] == [("mine", 1)]
    assert "maple" not in (folder / "audit.html").read_text()


def test_a_dry_run_writes_nothing(files: tuple[Path, str]) -> None:
    text, spec = files
    result = tally(text, "-b", spec, "--dry-run")
    assert "mine (items): 1 item" in result.stdout
    assert not text.with_name("text.jsonl.audit").exists()


def test_mistakes_are_one_line_without_traceback(files: tuple[Path, str]) -> None:
    text, spec = files
    empty = text.with_name("empty.jsonl")
    empty.touch()
    for arguments, message in [
        ((empty, "-b", spec), "no document in it, so nothing to audit"),
        ((text, "-b", "olmo:pica"), "did you mean olmo:piqa?"),
        ((text.with_name("no"), "-b", spec), "no such file or directory"),
        ((text, "-b", spec, "--run", text), "audit the dataset, not text"),
        ((text, "-b", spec, "--step", 3), "name it with --run RUN"),
        ((text, "-b", spec, "--part", "3/2"), "it is K/N with K from 1 to N"),
        ((text, "-b", spec, "--samples", text.parent), "`tally eval RUN` writes RUN/eval"),
    ]:
        result = tally(*arguments)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_parts_scan_and_the_plain_command_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, items, output = tmp_path / "texts", tmp_path / "items.jsonl", tmp_path / "audit"
    texts.mkdir()
    for name in "abc":
        rows = [f"{uuid.uuid4()}\n{QUESTION} Chlorophyll.\nAfter.", f"Nothing here. {uuid.uuid4()}"]
        content = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (texts / f"{name}.jsonl").write_text(content)
    items.write_text(json.dumps({"question": QUESTION, "answer": "chlorophyll"}))
    command = (texts, "-b", f"mine={items}", "-o", output, "--also", "gpt3")
    first, second = (run(*command, "--part", f"{k}/2") for k in (1, 2))
    parts = [process.communicate()[0] for process in (first, second)]  # both at the same time
    assert "part 1/2: scanned all of 2 pieces" in parts[0]
    assert "part 2/2: scanned all of 1 piece," in parts[1]
    assert not output.exists()
    output.mkdir()
    (output / ".audit.json.0123abcd.tmp").write_text("of an audit that was killed")
    report = tally(*command)
    assert "scanned 0 of 3 pieces" in report.stdout, report.stderr
    monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))  # where nothing is scanned
    whole = tmp_path / "whole"
    assert "scanned all of 3 pieces" in tally(*command[:3], "-o", whole, "--also", "gpt3").stdout
    names = {path.name for path in whole.iterdir()}
    assert names == {path.name for path in output.iterdir()}
    for name in names - {"audit_log.json"}:
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((output / "audit.json").read_text())["totals"]["dirty_documents"] == 3
