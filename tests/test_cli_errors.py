"""An error names the page that explains it: by its message, else by the module it comes from."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs import error_pages
from configs.errors import ConfigError
from configs.interrupted import INTERRUPTED
from configs.mixture import parse_amount
from configs.terminal import machine_trouble
from shards.cache import cache_directory
from shards.errors import DatasetError
from shards.reader import Dataset

ROOT = Path(__file__).parent.parent


def raised(work: object, *arguments: object) -> ValueError:
    assert callable(work)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        work(*arguments)
    return caught.value


def test_the_message_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    error = raised(Dataset.open, tmp_path)
    assert isinstance(error, DatasetError)
    assert error_pages.page_of(error) == "docs/troubleshooting.md#no-complete-dataset"
    error = ConfigError("phase 'p': global_batch_tokens 9 is not a multiple of seq_len\n4")
    assert error_pages.page_of(error) == "docs/troubleshooting.md#batch-and-window"


def test_then_the_module_that_raised_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = raised(parse_amount, "3 hours")
    assert error_pages.page_of(error) == str(ROOT / "docs" / "troubleshooting.md")
    assert error_pages.page_of(ValueError("of nobody")) is None


def test_every_page_and_anchor_exists() -> None:
    for _, page in error_pages._PAGES:
        assert (ROOT / page).is_file(), page
    headings = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    anchors = {line.lstrip("# ").lower().replace(" ", "-") for line in headings if "#" in line[:1]}
    found = [trouble.anchor for trouble in error_pages.troubles()]
    assert len(found) > 10
    assert set(found) <= anchors


def test_the_command_prints_it_last(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tally", "plan", "absent.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: absent.yaml: no such file; give the path of a YAML configuration",
        f"more: {ROOT}/docs/troubleshooting.md#no-such-config",
    ]


@pytest.mark.parametrize("cache", ["/proc/x", "file/x"])
def test_a_cache_that_cannot_be(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_CACHE", cache)
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        (cache_directory() / "text").mkdir(parents=True)
    said = f"TALLY_CACHE={cache}: no folder can be made there; set another"
    assert machine_trouble(caught.value) == said
    assert machine_trouble(FileNotFoundError(errno.ENOENT, "a bug", "elsewhere")) is None


def test_ctrl_c_is_one_line_while_modules_load() -> None:
    command = [sys.executable, "-v", "-m", "tally", "doctor"]
    doctor = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert doctor.stderr is not None
    for line in doctor.stderr:  # -v names each module when it is there
        if line.startswith("import 'configs.interrupted'"):
            doctor.send_signal(signal.SIGINT)
            break
    said = doctor.communicate(timeout=60)[1]
    assert doctor.returncode == -signal.SIGINT
    assert INTERRUPTED in said.splitlines()
    assert "Traceback" not in said


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "some words to build from"}\n')
    (tmp_path / "build.yaml").write_text(
        "name: n\nsources: {web: {kind: jsonl, paths: [a.jsonl], licence: none}}\n"
    )
    command = [sys.executable, "-m", "tally", "build", "build.yaml", "-o", "out", "--workers", "2"]
    build = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # a terminal sends the signal to all processes of a command
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "out.work").exists() and build.poll() is None:
        time.sleep(0.01)
    os.killpg(build.pid, signal.SIGINT)
    said = build.communicate(timeout=60)[1]
    assert (build.returncode, said) == (130, f"{INTERRUPTED}\n")
