"""A training run: data, model, optimizer, schedule, engine, checkpoints. Values live in YAML."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from configs.base import Section
from configs.mixture import MixtureConfig
from configs.model import ModelConfig

Fraction01 = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW, clipping, and what happens to steps whose gradient is not finite."""

    lr: PositiveFloat
    """Peak learning rate; the schedule multiplies it."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled decay of the parameters that `decay` selects."""
    decay: Literal["matrices", "matrices_but_embeddings", "all"] = "matrices"
    """Which parameters decay: those with two axes; those without embedding and head; all."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Gradients longer than this (global L2 norm) are scaled down to it; null: never."""
    max_skipped_steps: NonNegativeInt = 10
    """Stop the run once more steps than this had a gradient that was not finite."""


class CosineSchedule(Section):
    """Linear warm-up to the peak, then half a cosine that reaches the floor when the run ends."""

    shape: Literal["cosine"] = "cosine"
    warmup_steps: NonNegativeInt
    """Step s < warmup_steps runs at (s + 1) / warmup_steps of the peak."""
    floor: Fraction01 = 0.1
    """Fraction of the peak at the end."""


class WsdSchedule(Section):
    """Warm-up, stable, decay: linear to the peak, constant, 1 - sqrt(progress) to the floor."""

    shape: Literal["wsd"]
    warmup_steps: NonNegativeInt
    """Step s < warmup_steps runs at (s + 1) / warmup_steps of the peak."""
    decay_steps: NonNegativeInt
    """Steps at the end of the run in which the rate falls; 0 keeps it constant."""
    floor: Fraction01 = 0.1
    """Fraction of the peak at the end."""


class EngineConfig(Section):
    """How DeepSpeed holds weights, gradients and optimizer state."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What the ranks share out: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""
    precision: Literal["fp32", "bf16_autocast", "bf16"] = "fp32"
    """float32; bfloat16 arithmetic over float32 weights; bfloat16 weights with a float32 master."""
    compile: bool = False
    """Compile the model with torch.compile."""


class CheckpointConfig(Section):
    """When to save and how much to keep."""

    every_steps: PositiveInt
    """A checkpoint after every so many steps, and one at the end."""
    keep: PositiveInt = 2
    """Newest checkpoints that stay."""


class ValidationConfig(Section):
    """Held-out loss during the run, on the first windows of every source's held-out split."""

    every_steps: PositiveInt
    """Measured after every so many steps, and at the end."""
    windows: PositiveInt = 16
    """Windows per source, or all where there are fewer."""
    split: str = "val"
    """Name of the held-out split."""


class LaunchConfig(Section):
    """Where it runs. Nothing here changes what is computed."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: the GPUs where there are any."""
    ranks: PositiveInt | None = None
    """Processes; by default one per GPU, or one on the CPU."""


class TrainConfig(Section):
    """Everything that determines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run; the default output is runs/<name>."""
    data: MixtureConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: Annotated[CosineSchedule | WsdSchedule, Field(discriminator="shape")]
    micro_batch: PositiveInt
    """Windows that a rank computes at once; the rest of the global batch is accumulated."""
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig
    validation: ValidationConfig | None = None
    launch: LaunchConfig = LaunchConfig()
    seed: NonNegativeInt = 0
    """Of the initial weights; the data order has its own (data.seed)."""
