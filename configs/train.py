"""A training run: data, model, optimizer, schedule, engine, checkpoints. Values live in YAML."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from configs.base import Section
from configs.mixture import MixtureConfig
from configs.model import ModelConfig
from configs.optimizer import OptimizerConfig

Card = Literal["A100-40", "A100-80", "L20", "H100", "H200"]
"""GPUs that `tally plan` reckons with."""
Fraction01 = Annotated[float, Field(ge=0, le=1)]


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


class LoaderConfig(Section):
    """How a rank reads its data. Nothing here changes what is read, nor its order."""

    threads: PositiveInt = 1
    """Threads that read ahead."""
    steps_ahead: PositiveInt = 2
    """Steps that are read before they are needed."""
    verify: Literal["off", "lazy", "start"] = "lazy"
    """Checksums of the shards: none; each when a rank first touches it; all before the first step,
    the ranks of a machine sharing the work."""


class LaunchConfig(Section):
    """Where it runs. Nothing here changes what is computed."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: the GPUs where there are any."""
    ranks: PositiveInt | None = None
    """Processes; by default one per GPU, or one on the CPU."""
    gpu_hour_price: dict[Card | Literal["this"], NonNegativeFloat] = Field(default_factory=dict)
    """What you pay for an hour of one GPU, by card, for the cost in `tally plan`."""


class TrainConfig(Section):
    """Everything that determines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run; the default output is runs/<name>."""
    data: MixtureConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: Annotated[CosineSchedule | WsdSchedule, Field(discriminator="shape")]
    z_loss: NonNegativeFloat = 0.0
    """Weight of the mean of logsumexp(logits)^2, minimised with the cross entropy: it keeps the
    logits near zero (Chowdhery et al. 2022, arXiv:2204.02311, section 5)."""
    micro_batch: PositiveInt
    """Windows that a rank computes at once; the rest of the global batch is accumulated."""
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig
    validation: ValidationConfig | None = None
    loader: LoaderConfig = LoaderConfig()
    launch: LaunchConfig = LaunchConfig()
    seed: NonNegativeInt = 0
    """Of the initial weights; the data order has its own (data.seed)."""
