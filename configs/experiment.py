"""Several runs declared as one experiment: arms, each with what it changes, and seeds.

experiment: tinylm
base: recipes/tinylm_275m_a.yaml
arms:
  adamw: {factors: {optimizer: AdamW}}
  muon: {set: ["optimizer.muon={lr: 0.02}"], factors: {optimizer: Muon}}
seeds: [0, 1, 2]
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator

from configs.base import Section
from configs.loading import parse_yaml

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class ArmConfig(Section):
    """One arm: a configuration of a run and what it changes in it."""

    config: str | None = None
    """YAML file of the run, relative to the experiment's file; by default the experiment's base."""
    set: tuple[str, ...] = ()
    """Settings as `a.b=value`."""
    factors: dict[str, str] = Field(default_factory=dict)
    """What the arm is a combination of (attention: MLA); with two of them `tally compare` prints
    the matrix."""


class ExperimentConfig(Section):
    """Arms times seeds; each is a run of its own."""

    experiment: _Name
    """Its name; the default output is runs/<name>."""
    base: str | None = None
    """YAML file of the run that arms begin with, relative to the experiment's file."""
    arms: Annotated[dict[_Name, ArmConfig], Field(min_length=1)]
    seeds: tuple[NonNegativeInt, ...] = ()
    """Seeds of the data order, one run each; by default the configuration's own."""
    seed_weights: bool = False
    """The seed draws other initial weights too."""

    @model_validator(mode="after")
    def _every_arm_has_a_config(self) -> Self:
        for name, arm in self.arms.items():
            if arm.config is None and self.base is None:
                raise ValueError(f"arms.{name}: no `config`, and the experiment has no `base`")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is given twice")
        return self


def is_experiment(path: Path) -> bool:
    """Whether a YAML file declares an experiment, and not a single run."""
    if not path.is_file():
        return False
    values = parse_yaml(path.read_text(encoding="utf-8"))
    return isinstance(values, dict) and "arms" in values
