"""A training run: data, model, optimizer, schedule, engine, checkpoints. Values live in YAML."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from configs.base import Section
from configs.mixture import MixtureConfig
from configs.model import ModelConfig
from configs.optimizer import OptimizerConfig

Card = Literal["A100-40", "A100-80", "L20", "H100", "H200"]
"""GPUs that `tally plan` reckons with."""
Precision = Literal["fp32", "bf16_autocast", "bf16", "pure_bf16"]
Fraction01 = Annotated[float, Field(ge=0, le=1)]


class _Warmup(Section):
    """The beginning that all schedules share."""

    warmup_steps: NonNegativeInt
    """Steps before the rate is at its peak."""
    warmup: Literal["one_step", "zero", "floor"] = "one_step"
    """The rate of step s < warmup_steps = w, as a fraction of the peak: (s + 1) / w; s / w, so that
    the first step changes nothing; or floor + (1 - floor) s / w."""
    floor: Fraction01 = 0.1
    """Fraction of the peak at the end."""


class CosineSchedule(_Warmup):
    """Linear warm-up to the peak, then half a cosine that reaches the floor when the run ends."""

    shape: Literal["cosine"] = "cosine"
    """Which schedule this is."""


class WsdSchedule(_Warmup):
    """Warm-up, stable, decay: linear to the peak, constant, 1 - sqrt(progress) to the floor."""

    shape: Literal["wsd"]
    """Which schedule this is."""
    decay_steps: NonNegativeInt
    """Steps at the end of the run in which the rate falls; 0 keeps it constant."""


Schedule = Annotated[CosineSchedule | WsdSchedule, Field(discriminator="shape")]


class EngineConfig(Section):
    """How DeepSpeed holds weights, gradients and optimizer state."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What the ranks share out: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""
    precision: Precision = "fp32"
    """float32; bfloat16 arithmetic over float32 weights; bfloat16 weights with a float32 master;
    bfloat16 weights, gradients and moments and nothing else, whose rounding costs quality."""
    compile: bool = False
    """Compile the model with torch.compile."""


class ChangeConfig(Section):
    """What changes where a phase begins, in one run with one account of its data.

    The run saves a checkpoint there and goes on from it with another model or engine.
    """

    num_layers: PositiveInt | None = None
    """Grow to so many blocks, a multiple of what there were; embedding, last norm and head stay."""
    layer_map: Literal["stack", "interleave"] = "stack"
    """Block i of the grown model begins as block i mod n of the n there were, or as block i div
    (num_layers / n)."""
    optimizer_state: Literal["fresh", "kept"] | None = None
    """Moments begin at zero, or go on, those of a copied block as the block; by default fresh where
    blocks are added and kept otherwise."""
    precision: Precision | None = None
    """Another `engine.precision` from here on."""
    schedule: Schedule | None = None
    """A schedule of its own, whose first step is the phase's and whose end is that of the run or of
    the phase before the next such schedule; the one before ends where it begins."""

    @property
    def fresh_optimizer(self) -> bool:
        """Whether moments begin at zero."""
        return self.optimizer_state == "fresh" or (
            self.optimizer_state is None and self.num_layers is not None
        )

    @property
    def remakes(self) -> bool:
        """Whether model or optimizer are made anew, not only the schedule."""
        return self.fresh_optimizer or self.num_layers is not None or self.precision is not None


class SentinelConfig(Section):
    """Watch the rank of the matrices that Muon updates, by their singular values."""

    every_steps: PositiveInt = 1000
    """Looked at after every so many steps, and at the end."""
    min_ratio: Fraction01 = 1e-4
    """Warn of a matrix whose smallest singular value is below this fraction of its largest."""


class CheckpointConfig(Section):
    """When to save and how much to keep."""

    every_steps: PositiveInt
    """A checkpoint after every so many steps, and one at the end."""
    keep: PositiveInt = 2
    """Newest checkpoints that stay."""
    milestones: PositiveInt | None = None
    """A checkpoint after every so many steps that is kept for good, beside the newest."""
    remote: str | None = None
    """Also send them to REMOTE/<name of the run> (`s3://bucket/dir`), while training goes on;
    a machine that has older ones or none resumes from there."""


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


class SlurmJobConfig(Section):
    """The job that `tally train --slurm` submits; ranks a node are `launch.ranks`, one a GPU."""

    nodes: PositiveInt = 1
    """Nodes that work together."""
    cpus_per_rank: PositiveInt = 8
    """Cores of every rank."""
    time: str = "24:00:00"
    """Most the job may take before it saves, leaves and queues again, as `sbatch --time` has it."""
    partition: str | None = None
    """None leaves it to the cluster."""
    sbatch_args: dict[str, str] = Field(default_factory=dict)
    """More options of sbatch, as `{account: mine}`."""
    env_command: str | None = None
    """Shell line before the ranks start, such as `module load cuda`."""


class LaunchConfig(Section):
    """Where it runs. Nothing here changes what is computed."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: the GPUs where there are any."""
    ranks: PositiveInt | None = None
    """Processes; by default one per GPU, or one on the CPU."""
    slurm: SlurmJobConfig = SlurmJobConfig()
    gpu_hour_price: dict[Card | Literal["this"], NonNegativeFloat] = Field(default_factory=dict)
    """What you pay for an hour of one GPU, by card, for the cost in `tally plan`."""


class TrainConfig(Section):
    """Everything that determines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run; the default output is runs/<name>."""
    data: MixtureConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: Schedule
    z_loss: NonNegativeFloat = 0.0
    """Weight of the mean of logsumexp(logits)^2, minimised with the cross entropy: it keeps the
    logits near zero (Chowdhery et al. 2022, arXiv:2204.02311, section 5)."""
    micro_batch: PositiveInt
    """Windows that a rank computes at once; the rest of the global batch is accumulated."""
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig
    validation: ValidationConfig | None = None
    sentinel: SentinelConfig | None = None
    """Only with optimizer.muon."""
    changes: dict[str, ChangeConfig] = Field(default_factory=dict)
    """By the name of the phase that begins with the change."""
    trackers: tuple[Literal["tensorboard", "wandb", "csv"], ...] = ()
    """Who else gets the metrics: TensorBoard (RUN/tensorboard), Weights & Biases, RUN/metrics.csv;
    the first two by the extras of these names."""
    loader: LoaderConfig = LoaderConfig()
    launch: LaunchConfig = LaunchConfig()
    seed: NonNegativeInt = 0
    """Of the initial weights; the data order has its own (data.seed)."""
    init_from: str | None = None
    """Folder of `tally import`: begin with those weights instead of random ones."""

    @property
    def shared_whole(self) -> bool:
        """Whether ZeRO stage 1 is ours, by whole parameters (`train.owners`): what Muon needs."""
        return self.optimizer.muon is not None and self.engine.zero_stage == 1

    @model_validator(mode="after")
    def _changes_fit(self) -> Self:
        names = [phase.name for phase in self.data.phases]
        for name in self.changes:
            if names.count(name) != 1 or name == names[0]:
                raise ValueError(
                    f"changes.{name}: name one phase after the first, and only it; the phases are "
                    f"{', '.join(names)}"
                )
        growth = [self.changes[name].num_layers for name in names if name in self.changes]
        depths = [self.model.num_layers, *(layers for layers in growth if layers is not None)]
        for old, new in pairwise(depths):
            if new <= old or new % old:
                raise ValueError(
                    f"changes: num_layers = {new} is no larger multiple of the {old} before"
                )
        if len(depths) > 1 and self.model.nanochat:
            raise ValueError("changes: nanochat's value tables depend on the depth; it cannot grow")
        return self

    @model_validator(mode="after")
    def _sentinel_has_matrices(self) -> Self:
        if self.sentinel and self.optimizer.muon is None:
            raise ValueError("'sentinel' watches what Muon updates; give optimizer.muon too")
        return self
