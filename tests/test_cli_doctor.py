"""`tally doctor` on this machine, and on one where nearly everything is broken."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from train import doctor_packages

ROOT = Path(__file__).parent.parent
TOKEN = "hf_averysecretvalue"
NVIDIA_SMI = "#!/bin/sh\necho 'Driver Version: 550.54   CUDA Version: 12.4'\n"


def doctor(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tally", "doctor", *arguments]
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=folder, env=everything, capture_output=True, text=True)


def by_topic(text: str) -> dict[str, dict[str, Any]]:
    return {finding["topic"]: finding for finding in json.loads(text)["findings"]}


def test_a_machine_that_runs_these_tests_has_no_problem(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json", HF_HUB_OFFLINE="1", TALLY_CACHE=str(tmp_path / "new"))
    assert done.returncode == 0, done.stdout
    found = by_topic(done.stdout)
    assert found["packages"]["level"] == "ok"
    assert found["hub"]["said"].startswith("not asked: HF_HUB_OFFLINE is set")
    assert f"{tmp_path}: " in found["disk of TALLY_CACHE"]["said"]
    assert "DeepSpeed" not in found["deepspeed"]["way_out"]


def test_a_broken_machine_is_told_without_a_traceback(tmp_path: Path) -> None:
    """A torch that cannot load, a driver it does not see, no network, a folder that is a file."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "a_file").write_text("")
    start = time.monotonic()
    done = doctor(
        tmp_path,
        "-o",
        "a_file/data",
        PYTHONPATH=f"{tmp_path}:{ROOT}",
        PATH=f"{tmp_path}:/usr/bin:/bin",
        HF_TOKEN=TOKEN,
        HF_ENDPOINT=f"http://me:{TOKEN}@127.0.0.1:9",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        AWS_ACCESS_KEY_ID="AKIAEXAMPLE0",
        AWS_SECRET_ACCESS_KEY="anothersecretvalue",
    )
    assert done.returncode == 1, done.stdout
    assert time.monotonic() - start < 60
    said = done.stdout
    assert "Traceback" not in said + done.stderr
    assert "torch                cannot be imported (ImportError: libcudart.so.12" in said
    assert "driver 550.54, up to CUDA 12.4" in said
    assert "deepspeed            cannot be imported" in said
    assert "a_file: cannot be written to" in said
    assert "http://***@127.0.0.1:9 cannot be reached: [Errno 111] Connection refused" in said
    assert "export LC_ALL=C.UTF-8" in said
    assert "credentials found by 'env', not tried" in said
    assert TOKEN not in said
    assert "anothersecretvalue" not in said


def test_a_torch_without_cuda_beside_a_driver_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _, gpu = doctor_packages.torch()
    assert gpu.level == "problem"
    assert gpu.said == "driver 550.54 is there (up to CUDA 12.4), but torch sees no GPU"
