"""What is said before the ranks start."""

from pathlib import Path

import pytest

from configs.train import EngineConfig
from train.errors import TrainError
from train.launch import announce_compile


def test_compiling_needs_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    announce_compile(EngineConfig(compile=False))
    with pytest.raises(TrainError, match=r"no C\+\+ compiler"):
        announce_compile(EngineConfig(compile=True))
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    announce_compile(EngineConfig(compile=True))
    assert "compiles the model" in capsys.readouterr().out
