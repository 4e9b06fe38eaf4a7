"""From our settings to DeepSpeed's dictionary: the one place that knows DeepSpeed's keys.

What DeepSpeed 0.19.8 does silently wrong is refused here, with the reason. The optimizer and the
schedule are ours, so they are not in the dictionary.
"""

from typing import Any

from configs.train import TrainConfig
from train.errors import TrainError
from train.flops import bucket_elements


def refuse_unsound(config: TrainConfig) -> None:
    """Refuse the combinations that DeepSpeed computes wrong or cannot compute.

    Raises:
        TrainError: with the reason and what to use instead.
    """
    engine, muon = config.engine, config.optimizer.muon is not None
    if muon and engine.zero_stage >= 2:
        raise TrainError(
            f"engine: zero_stage {engine.zero_stage} cannot train with optimizer.muon: DeepSpeed "
            "cuts gradients into flat pieces, Muon needs whole matrices, and DeepSpeed's own Muon "
            "clips the update instead of the gradient; use zero_stage 1, which shares out the "
            "optimizer state by whole matrices, or 0"
        )
    if muon and engine.precision == "bf16":
        raise TrainError(
            "engine: precision bf16 does not go with optimizer.muon: its float32 master weights "
            "are DeepSpeed's flat pieces from zero_stage 1 on, and at stage 0 it trains wrong; "
            "use precision bf16_autocast"
        )
    if engine.precision == "pure_bf16" and deepspeed_stage(config) > 0:
        raise TrainError(
            f"engine: precision pure_bf16 at zero_stage {engine.zero_stage} would get a float32 "
            "master from DeepSpeed, which is precision bf16; use that, or zero_stage 0"
        )
    if engine.precision == "bf16" and engine.zero_stage == 0:
        raise TrainError(
            "engine: precision bf16 at zero_stage 0 trains wrong: DeepSpeed takes one optimizer "
            "step with zero gradients when it starts, so Adam's step count is one too high and "
            "one weight decay too many is applied; use precision bf16_autocast, or zero_stage 1"
        )
    if engine.compile and engine.zero_stage == 3:
        raise TrainError(
            "engine: compile does not work at zero_stage 3: the compiled graph sees weights that "
            "are not gathered; set compile: false, or zero_stage to 2 or less"
        )


def deepspeed_stage(config: TrainConfig) -> int:
    """The stage DeepSpeed is told: 0 where stage 1 is ours.

    At stage 0 gradients are whole on every rank after backward, so the loop clips them: DeepSpeed
    would clip too, but reports no norm. From stage 1 on it holds shards, and clips.
    """
    return 0 if config.shared_whole else config.engine.zero_stage


def deepspeed_config(config: TrainConfig, batch_windows: int, world_size: int) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Args:
        config: the run.
        batch_windows: windows in the first global batch.
        world_size: ranks.
    """
    engine = config.engine
    refuse_unsound(config)
    stage = deepspeed_stage(config)
    max_norm = config.optimizer.max_grad_norm or 0.0
    values: dict[str, Any] = {
        "train_batch_size": batch_windows,
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": accumulation(batch_windows, config.micro_batch, world_size),
        # Always written: absent means 1.0 to DeepSpeed.
        "gradient_clipping": 0.0 if stage == 0 else max_norm,
        "zero_optimization": {"stage": stage},
        "steps_per_print": None,
    }
    if stage:  # its buffer of gradients need not be larger than the model
        values["zero_optimization"]["reduce_bucket_size"] = bucket_elements(config.model)
    if engine.precision == "bf16_autocast":
        values["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
        # By default the gradients of linear layers would be summed over the ranks in bfloat16.
        values["torch_autocast"]["lower_precision_safe_modules"] = []
    if engine.precision == "bf16":
        values["bf16"] = {"enabled": True}
        # By default the micro-batches' gradients would be summed in bfloat16.
        values["data_types"] = {"grad_accum_dtype": "fp32"}
    return values


def accumulation(batch_windows: int, micro_batch: int, world_size: int) -> int:
    """Micro-batches a rank computes per step.

    Raises:
        TrainError: the global batch cannot be dealt out evenly.
    """
    at_once = micro_batch * world_size
    if batch_windows % at_once:
        raise TrainError(
            f"global batch of {batch_windows} windows cannot be dealt evenly to {world_size} "
            f"rank(s) with micro_batch {micro_batch} ({at_once} at once); choose a micro_batch "
            f"or a number of ranks whose product divides {batch_windows}"
        )
    return batch_windows // at_once
