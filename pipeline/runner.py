"""The executor that a build's configuration asks for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from configs.executor import ExecutorConfig
from pipeline.executor import LocalRunner, Runner, worker_pool
from pipeline.ray_executor import ray_runner
from pipeline.slurm_executor import SlurmRunner


@contextmanager
def stage_runner(config: ExecutorConfig, workers: int | None) -> Iterator[Runner]:
    """What runs the stages' tasks, for the time of a build.

    Args:
        config: what the build's configuration says.
        workers: most tasks at a time; None means one a core or, on a cluster, what it has.
    """
    if config.kind == "ray":
        with ray_runner(config.ray, workers or -1) as runner:
            yield runner
    elif config.kind == "slurm":
        yield SlurmRunner(config.slurm, workers or -1)
    else:
        with worker_pool(workers or len(os.sched_getaffinity(0))) as pool:
            yield LocalRunner(pool)
