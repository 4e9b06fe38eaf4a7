"""Out of memory: recognised, and answered with the plan's table and what would fit."""

import pytest
import torch

from configs.train import TrainConfig
from tests.test_train_zero import config
from train.flops import memory_gib
from train.memory import explain, is_out_of_memory, suggestions


def large(**engine: object) -> TrainConfig:
    values = config().model_dump()
    values["model"] |= {"d_model": 512, "num_heads": 8, "num_kv_heads": 8, "head_dim": 64}
    values["model"] |= {"num_layers": 12, "ffn_dim": 2048, "vocab_size": 32_000}
    values["model"]["max_seq_len"] = 1024
    return TrainConfig.model_validate(values | {"micro_batch": 32, "engine": engine})


def test_torch_says_so() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_what_is_suggested_fits_by_the_same_estimate() -> None:
    whole = sum(memory_gib(large(), 1024, 2).values())
    found = dict(suggestions(large(), 1024, 2, whole / 2))
    assert all(size <= whole / 2 for size in found.values())
    assert "micro_batch=8" in found
    assert "micro_batch=16" not in found, "activations are halved, weights are not"
    assert "engine.zero_stage=1 micro_batch=1" in found
    assert not any("zero_stage" in name for name in dict(suggestions(large(), 1024, 1, whole)))


def test_the_message_has_the_table_and_the_way_out() -> None:
    error = explain(MemoryError("CUDA out of memory. Tried"), large(), 1024, 1)
    parts = memory_gib(large(), 1024, 1)
    assert f"weights {parts['weights']:25.2f}" in str(error)
    assert "micro_batch=4" in str(error)
    assert "goes on from its last checkpoint" in str(error)
