"""Stages on a Slurm cluster: one job array a stage, through datatrove's `SlurmPipelineExecutor`.

The build itself waits where it was started (a login node) and submits a stage when the one before
it is done. If it ends, its jobs go on: run again, it finds them by their name and waits for them.
Jobs of a node that is lost go back into the queue by Slurm itself (`--requeue`).
"""

import subprocess
import sys
import time
from pathlib import Path

from blake3 import blake3
from datatrove.executor import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from configs.executor import SlurmConfig
from configs.terminal import console
from pipeline.cores import POOLS
from pipeline.errors import BuildError
from pipeline.executor import Reporting, quiet_datatrove, refuse_incomplete
from pipeline.task_report import failures, tell

_SHARED_DISK_S = 60.0
_PICKLE = "executor.pik"
_ATTEMPTS = 3
"""How often a task is submitted that dies without saying why: killed, out of memory, node lost."""


class SlurmRunner:
    """Runs tasks as jobs of an array.

    Args:
        config: what a job needs.
        workers: most tasks at a time; -1 leaves it to the cluster.
    """

    def __init__(self, config: SlurmConfig, workers: int) -> None:
        self._config, self._workers = config, workers

    def run(self, steps: list[PipelineStep], tasks: int, logs: Path) -> None:
        """Submit the tasks that are not completed and not submitted yet, and wait for all.

        Raises:
            BuildError: a task failed, or Slurm cannot be asked.
        """
        name = _job_name(logs)
        if jobs := _active(name):
            tell(f"waiting for Slurm job {_ids(jobs)}, which an earlier run submitted")
            self._wait(name)
        for attempt in range(_ATTEMPTS):
            executor = self._tasks(steps, tasks, logs, name)
            ranks = executor.get_incomplete_ranks()
            if not ranks or (attempt and failures(logs, ranks)):
                break
            if attempt:
                tell(f"{len(ranks)} tasks ended without a word and are submitted again")
            _submit(executor)
            tell(
                f"{name}: Slurm job {executor.job_id}, {len(ranks)} tasks "
                f"(scancel -n {name} stops it)"
            )
            self._wait(name)
            ranks = _after_settling(executor)
        (logs / _PICKLE).unlink(missing_ok=True)
        more = f"Slurm's logs in {executor.slurm_logs_folder} may say more (memory, time limit?)"
        refuse_incomplete(logs, ranks, more)

    def _tasks(self, steps: list[PipelineStep], tasks: int, logs: Path, name: str) -> "_SlurmTasks":
        config = self._config
        return _SlurmTasks(
            steps,
            tasks=tasks,
            time=config.time,
            partition=config.partition,
            cpus_per_task=config.cpus_per_task,
            mem_per_cpu_gb=config.mem_per_cpu_gb,
            workers=self._workers,
            job_name=name,
            qos=config.qos,
            env_command=_environment(config),
            sbatch_args=dict(config.sbatch_args),
            max_array_size=config.max_array_size,
            tasks_per_job=config.tasks_per_job,
            logging_dir=str(logs),
            requeue_signals=None,
        )

    def _wait(self, name: str) -> None:
        while _active(name):
            time.sleep(self._config.poll_s)


class _SlurmTasks(Reporting, SlurmPipelineExecutor):
    def get_sbatch_args(self, max_array: int = 1) -> dict[str, object]:
        """Without what is left to the cluster's defaults."""
        arguments = super().get_sbatch_args(max_array)
        return {key: value for key, value in arguments.items() if value is not None}

    def launch_merge_stats(self) -> None:
        """No job for datatrove's statistics: counts are taken from the files."""


def _environment(config: SlurmConfig) -> str:
    """Shell lines of a job: sbatch hands on the variables of the machine that submits it."""
    python = config.env_command or f"export PATH={Path(sys.executable).parent}:$PATH"
    threads = " ".join(f"{name}={config.cpus_per_task}" for name in POOLS)
    return f"{python}\nexport {threads}"


def _job_name(logs: Path) -> str:
    """The same for the same stage of the same work directory, and for no other."""
    stage = logs.parent
    return f"tally-{stage.name[:-17]}-{blake3(str(stage).encode()).hexdigest()[:12]}"


def _submit(executor: _SlurmTasks) -> None:
    try:
        with quiet_datatrove():
            executor.run()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise BuildError(f"Slurm does not take the jobs: {_said(error)}") from None


def _active(name: str) -> list[str]:
    """Ids of the jobs of this name that wait or run; asks again for a minute if Slurm is busy."""
    command = ["squeue", "--noheader", "--me", f"--name={name}", "--format=%A"]
    for last in (False, False, False, True):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout.split()
        except FileNotFoundError as error:
            raise BuildError(f"executor 'slurm' needs Slurm's commands: {_said(error)}") from None
        except subprocess.CalledProcessError as error:
            if last:
                raise BuildError(
                    f"Slurm cannot be asked: {_said(error)}; its jobs go on, run again to wait"
                ) from None
            console.print(f"Slurm does not answer, asking again for a minute: {_said(error)}")
            time.sleep(20)
    raise AssertionError("the last attempt returns or raises")


def _said(error: FileNotFoundError | subprocess.CalledProcessError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"'{error.filename}' is not installed here; start the build on a login node"
    return (error.stderr or f"exit code {error.returncode}").strip()


def _ids(jobs: list[str]) -> str:
    return ", ".join(dict.fromkeys(jobs))


def _after_settling(executor: _SlurmTasks) -> list[int]:
    """The tasks not completed, after time for a shared disk to show what another machine wrote."""
    deadline = time.monotonic() + _SHARED_DISK_S
    ranks: list[int] = executor.get_incomplete_ranks()
    logs = Path(executor.logging_dir.path)
    while ranks and not failures(logs, ranks) and time.monotonic() < deadline:
        time.sleep(1)
        ranks = executor.get_incomplete_ranks()
    return ranks
