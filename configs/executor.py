"""Where the tasks of a build run. It changes the time a build takes, never a byte.

`executor: {kind: slurm}` in a build's configuration, or `tally build --executor slurm`.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from configs.base import Section
from configs.choices import ExecutorKind
from configs.loading import load_settings


class RayConfig(Section):
    """A Ray cluster whose machines see the build's directories under the same paths."""

    address: str | None = None
    """As `ray.init` takes it (`auto`, `ray://head:10001`); None means RAY_ADDRESS or, without
    it, a cluster on this machine for the time of the build."""
    cpus_per_task: Annotated[int, Field(ge=1)] = 1
    """Cores that a task is given."""
    mem_per_cpu_gb: Annotated[int, Field(ge=1)] = 2
    """Gigabytes for each of them."""


class SlurmConfig(Section):
    """A Slurm cluster whose nodes see the build's directories under the same paths."""

    partition: str | None = None
    """None leaves it to the cluster."""
    time: str = "24:00:00"
    """Most a job may take, as `sbatch --time` has it."""
    cpus_per_task: Annotated[int, Field(ge=1)] = 1
    """Cores that a task is given."""
    mem_per_cpu_gb: Annotated[int, Field(ge=1)] = 2
    """Gigabytes for each of them."""
    qos: str = ""
    """Empty leaves it to the cluster."""
    sbatch_args: dict[str, str] = Field(default={})
    """More options of sbatch, as `{account: mine}`."""
    env_command: str | None = None
    """Shell line that makes this Python found on a node; None puts its folder first in PATH."""
    tasks_per_job: Annotated[int, Field(ge=1)] = 1
    """Tasks that one job of an array runs, one after the other."""
    max_array_size: Annotated[int, Field(ge=1)] = 1001
    """Most jobs in one array, as the cluster's MaxArraySize; more go into further arrays."""
    poll_s: Annotated[float, Field(gt=0)] = 5.0
    """How often Slurm is asked whether a stage is done."""


class ExecutorConfig(Section):
    """Which executor, and what each of them is told where it is chosen."""

    kind: ExecutorKind = "local"
    """This machine, a Ray cluster or a Slurm cluster."""
    ray: RayConfig = RayConfig()
    slurm: SlurmConfig = SlurmConfig()


class _Settings(Section):
    executor: ExecutorConfig = ExecutorConfig()


def load_executor(kind: ExecutorKind, overrides: Sequence[str]) -> ExecutorConfig:
    """The executor of a command that has no configuration file.

    Args:
        kind: which.
        overrides: `executor.slurm.partition=cpu` and the like.

    Raises:
        ConfigError: a setting that is none of an executor.
    """
    given = [*overrides, f"executor.kind={kind}"]
    return load_settings(_Settings, given, "command line").executor
