"""What a segment of a run takes over from the last checkpoint of the segment before."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from configs.model import ModelConfig
from configs.train import TrainConfig
from shards.hashing import blake3_file
from shards.plan import Plan
from train.checkpoint import COMPLETE_FILE, checkpoint_path, read_shape
from train.growth import grown
from train.segments import Segment, segment_at
from train.state import load_moments, read_moments, read_weights, restore_random_state
from train.zero import deepspeed_stage


class Parent(TypedDict):
    """The checkpoint a segment began from, as state.json names it."""

    step: int
    blake3: str
    """Of its COMPLETE, which holds the checksums of all its other files."""


@dataclass(frozen=True)
class Inheritance:
    """A checkpoint and the segment with another model or optimizer that begins with it."""

    folder: Path
    segment: Segment
    old_model: ModelConfig

    def weights(self) -> dict[str, Tensor]:
        """Of the new model, float32."""
        return self._mapped(read_weights(self.folder))

    def give_rest(self, engine: Any, rank: int, same_ranks: bool) -> None:
        """Moments, if they are kept, and random numbers; called on all ranks."""
        assert self.segment.change
        if not self.segment.change.fresh_optimizer:
            moments = self._mapped(read_moments(self.folder))
            load_moments(engine, moments, deepspeed_stage(self.segment.config))
        if same_ranks:
            restore_random_state(self.folder, rank)

    def parent(self) -> Parent:
        """Names the checkpoint so that it can be told from any other."""
        digest = blake3_file(self.folder / COMPLETE_FILE)
        return {"step": self.segment.first_step, "blake3": digest}

    def told(self) -> str:
        """What changes, in words."""
        change, model = self.segment.change, self.segment.config.model
        assert change
        parts = [f"from step {self.segment.first_step} on:"]
        if change.num_layers:
            old = self.old_model.num_layers
            parts.append(f"{model.num_layers} blocks made from {old} ({change.layer_map}),")
        if change.precision:
            parts.append(f"precision {change.precision},")
        return " ".join([*parts, f"moments {'fresh' if change.fresh_optimizer else 'kept'}"])

    def _mapped(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        old, new = self.old_model.num_layers, self.segment.config.model.num_layers
        if old == new:
            return tensors
        assert self.segment.change
        return grown(tensors, old, new, self.segment.change.layer_map)


def find_inheritance(
    run_dir: Path, config: TrainConfig, plan: Plan, step: int
) -> Inheritance | None:
    """The inheritance of the segment that begins at `step`; None where a run just goes on.

    Args:
        run_dir: the RUN directory, with a checkpoint of `step` unless that is 0.
        config: of the whole run.
        plan: of the whole run.
        step: steps done.
    """
    segment = segment_at(config, plan, step)
    begins = segment.change is not None and segment.first_step == step
    if not begins or segment.change is None or not segment.change.remakes:
        return None
    folder = checkpoint_path(run_dir, step)
    return Inheritance(folder, segment, read_shape(folder))
