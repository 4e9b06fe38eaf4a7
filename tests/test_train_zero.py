"""DeepSpeed's dictionary: what is always written, and what is refused with the reason."""

from typing import Any

import pytest

from configs.train import TrainConfig
from train.errors import TrainError
from train.flops import count_parameters, memory_gib
from train.zero import accumulation, deepspeed_config, refuse_unsound


def config(**engine: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "t",
            "data": {
                "seq_len": 4,
                "sources": {"s": {"dataset": "d"}},
                "phases": [{"length": "5 steps", "global_batch_tokens": 48, "weights": {"s": 1}}],
            },
            "model": {
                "vocab_size": 8,
                "num_layers": 1,
                "d_model": 4,
                "num_heads": 1,
                "num_kv_heads": 1,
                "head_dim": 4,
                "ffn_dim": 4,
                "max_seq_len": 4,
            },
            "optimizer": {"lr": 0.1, "max_grad_norm": 0.7},
            "schedule": {"shape": "cosine", "warmup_steps": 1},
            "micro_batch": 2,
            "engine": engine,
            "checkpoint": {"every_steps": 5},
        }
    )


def test_stage_0_leaves_clipping_to_the_loop_and_says_so_to_deepspeed() -> None:
    assert deepspeed_config(config(), batch_windows=12, world_size=3) == {
        "train_batch_size": 12,
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 0},
        "steps_per_print": None,
    }


def test_sharded_stages_clip_in_deepspeed() -> None:
    values = deepspeed_config(config(zero_stage=2), batch_windows=12, world_size=3)
    assert values["gradient_clipping"] == 0.7
    unclipped = config(zero_stage=2).model_copy(
        update={"optimizer": config().optimizer.model_copy(update={"max_grad_norm": None})}
    )
    assert deepspeed_config(unclipped, 12, 3)["gradient_clipping"] == 0.0


def test_the_buffer_of_gradients_is_no_larger_than_the_model_and_is_planned_for() -> None:
    sharded = config(zero_stage=1)
    count = count_parameters(sharded.model).total
    values = deepspeed_config(sharded, 12, 3)
    assert values["zero_optimization"] == {"stage": 1, "reduce_bucket_size": count}
    assert memory_gib(sharded, 4, 3)["DeepSpeed's buffer"] == 4 * count / 2**30
    assert "DeepSpeed's buffer" not in memory_gib(config(), 4, 3)


def test_precisions() -> None:
    autocast = deepspeed_config(config(precision="bf16_autocast"), 12, 3)
    assert autocast["torch_autocast"] == {
        "enabled": True,
        "dtype": "bfloat16",
        "lower_precision_safe_modules": [],
    }
    assert "bf16" not in autocast
    sharded = deepspeed_config(config(precision="bf16", zero_stage=1), 12, 3)
    assert sharded["bf16"] == {"enabled": True}
    assert sharded["data_types"] == {"grad_accum_dtype": "fp32"}


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ({"precision": "bf16"}, "one optimizer step with zero gradients"),
        ({"compile": True, "zero_stage": 3}, "weights that are not gathered"),
    ],
)
def test_what_deepspeed_does_wrong_is_refused(engine: dict[str, Any], reason: str) -> None:
    with pytest.raises(TrainError, match=reason):
        refuse_unsound(config(**engine))


def test_a_batch_that_cannot_be_dealt_evenly_is_refused() -> None:
    assert accumulation(12, micro_batch=2, world_size=3) == 2
    with pytest.raises(TrainError, match="12 windows cannot be dealt evenly to 5 rank"):
        accumulation(12, micro_batch=2, world_size=5)
