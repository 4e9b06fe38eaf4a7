"""Checkpoint directories: whole, proved, the broken passed over, the old deleted."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from configs.model import ModelConfig
from shards.atomic import write_json_atomic
from train.checkpoint import (
    begin,
    checkpoint_path,
    finish,
    latest_checkpoint,
    list_checkpoints,
    load_model,
    prune,
    resume_point,
    sweep,
    temporary_path,
    verify,
)
from train.errors import TrainError
from train.model import Decoder

MODEL = ModelConfig(
    vocab_size=11,
    num_layers=1,
    d_model=8,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    ffn_dim=12,
    max_seq_len=4,
)


def write(run: Path, step: int) -> Decoder:
    """A checkpoint of a model initialised with the step as seed."""
    model = Decoder(MODEL)
    model.initialise(step)
    begin(run, step)
    folder = temporary_path(run, step)
    save_file(model.state_dict(), folder / "model.safetensors")
    write_json_atomic(folder / "state.json", {"step": step, "model": MODEL.model_dump()})
    finish(run, step)
    return model


def test_load_model_takes_the_newest(tmp_path: Path) -> None:
    write(tmp_path, 9)
    newest = write(tmp_path, 10)
    model, step = load_model(tmp_path)
    assert step == 10
    pairs = zip(model.parameters(), newest.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not model.training
    assert load_model(tmp_path, 9)[1] == 9


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "add", "marker"])
def test_a_broken_checkpoint_is_passed_over_loudly(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    weights = checkpoint_path(tmp_path, 20) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "truncate":
        weights.write_bytes(content[:-1])
    elif damage == "delete":
        weights.unlink()
    elif damage == "add":
        weights.with_name("extra").write_bytes(b"x")
    else:
        weights.with_name("COMPLETE").write_text("{}")
    with caplog.at_level(logging.WARNING):
        latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 10
    assert "broken checkpoint" in caplog.text
    assert "step_000020" in caplog.text
    with pytest.raises(TrainError, match="step_000020"):
        verify(checkpoint_path(tmp_path, 20))
    with pytest.raises(TrainError, match="step_000020"):
        load_model(tmp_path, 20)


def test_a_run_without_an_intact_checkpoint_is_not_begun_again(tmp_path: Path) -> None:
    assert resume_point(tmp_path) is None
    begin(tmp_path, 5)  # killed while it wrote the first
    assert resume_point(tmp_path) is None
    write(tmp_path, 10)
    write(tmp_path, 20)
    (checkpoint_path(tmp_path, 20) / "model.safetensors").write_bytes(b"")
    found = resume_point(tmp_path)
    assert found is not None
    assert found.step == 10
    sweep(tmp_path, resumed_at=10)
    (checkpoint_path(tmp_path, 10) / "COMPLETE").unlink()
    with pytest.raises(
        TrainError, match=r"none of the .* intact \(broken-step_000020, step_000010"
    ):
        resume_point(tmp_path)
    (tmp_path / "checkpoints").rename(tmp_path / "checkpoints-lost")
    assert resume_point(tmp_path) is None


def test_an_unfinished_checkpoint_does_not_count_and_is_swept_away(tmp_path: Path) -> None:
    write(tmp_path, 10)
    begin(tmp_path, 20)
    (temporary_path(tmp_path, 20) / "model.safetensors").write_bytes(b"half")
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [10]
    sweep(tmp_path, resumed_at=10)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000010"]


def test_broken_checkpoints_are_set_aside_and_do_not_count(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step)
    sweep(tmp_path, resumed_at=10)  # 20 and 30 were found broken
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [10]
    write(tmp_path, 15)
    prune(tmp_path, keep=1)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [15]
    assert (tmp_path / "checkpoints" / "broken-step_000030").is_dir()


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 100, 20, 1_000_000):
        write(tmp_path, step)
    prune(tmp_path, keep=2)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [100, 1_000_000]


def test_milestones_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        write(tmp_path, step)
        prune(tmp_path, keep=1, milestones={20, 40})
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [20, 40]


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    write(tmp_path, 10)
    (checkpoint_path(tmp_path, 10) / "state.json").unlink()
    write(tmp_path, 10)
    verify(checkpoint_path(tmp_path, 10))


def test_missing_checkpoints_are_explained(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    with pytest.raises(TrainError, match="no intact checkpoint; train it first"):
        load_model(tmp_path)
    write(tmp_path, 10)
    with pytest.raises(TrainError, match=r"no checkpoint of step 11; there are \[10\]"):
        load_model(tmp_path, 11)
