"""A run as a Slurm job: the script is written into RUN, submitted, and can be submitted again.

`srun` starts the ranks itself, so no node needs to reach another by ssh. Two minutes before its
time is over Slurm sends SIGTERM: the ranks save and leave with 75, and the job goes back into the
queue to go on from there. Nodes see RUN, datasets and this checkout under the same paths.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from configs.train import LaunchConfig
from shards.atomic import write_text_atomic
from train.errors import TrainError
from train.launch import EXIT_STOPPED
from train.run_dir import STOP_NAME

SCRIPT_NAME = "train.sbatch"
_NOTICE_S = 120


def script(name: str, run_dir: Path, launch: LaunchConfig) -> str:
    """The job's script.

    Args:
        name: of the run.
        run_dir: prepared by `tally train`.
        launch: nodes, ranks a node, time.
    """
    return "\n".join(
        ["#!/bin/bash", *_directives(name, run_dir, launch), "", *_body(run_dir, launch), ""]
    )


def ranks_per_node(launch: LaunchConfig) -> int:
    """Processes on every node: one a GPU."""
    return launch.ranks or 1


def _directives(name: str, run_dir: Path, launch: LaunchConfig) -> list[str]:
    slurm, ranks = launch.slurm, ranks_per_node(launch)
    values = {
        "job-name": name,
        "nodes": str(slurm.nodes),
        "ntasks-per-node": str(ranks),
        "cpus-per-task": str(slurm.cpus_per_rank),
        "time": slurm.time,
        "output": str(run_dir.resolve() / "slurm-%j.log"),
        "open-mode": "append",
        "signal": f"TERM@{_NOTICE_S}",
    }
    if launch.device != "cpu":
        values["gpus-per-node"] = str(ranks)
    if slurm.partition is not None:
        values["partition"] = slurm.partition
    values |= slurm.sbatch_args
    return [*(f"#SBATCH --{key}={value}" for key, value in values.items()), "#SBATCH --requeue"]


def _body(run_dir: Path, launch: LaunchConfig) -> list[str]:
    root, run = shlex.quote(str(Path(__file__).parent.parent)), shlex.quote(str(run_dir.resolve()))
    rank = "RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
    rank += f" LOCAL_SIZE={ranks_per_node(launch)}"
    worker = f"{rank} exec {shlex.quote(sys.executable)} -m train worker {run}"
    cpu = [] if launch.device != "cpu" else ['export DS_ACCELERATOR=cpu CUDA_VISIBLE_DEVICES=""']
    return [
        *([launch.slurm.env_command] if launch.slurm.env_command else []),
        'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
        f"export OMP_NUM_THREADS={launch.slurm.cpus_per_rank}",
        f"export PYTHONPATH={root} PYTHONSAFEPATH=1",
        *cpu,
        f"srun bash -c {shlex.quote(worker)}",
        "code=$?",
        f"# {EXIT_STOPPED}: stopped in time, with a checkpoint; on request it stays stopped",
        f"if [ $code -eq {EXIT_STOPPED} ] && [ ! -e {run}/{STOP_NAME} ]; then",
        '  scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        "exit $code",
    ]


def submit(name: str, run_dir: Path, launch: LaunchConfig) -> str:
    """Write the script into RUN and hand it to Slurm; returns the job's number.

    Raises:
        TrainError: there is no sbatch here, or it refuses the job.
    """
    path = run_dir / SCRIPT_NAME
    write_text_atomic(path, script(name, run_dir, launch))
    (run_dir / STOP_NAME).unlink(missing_ok=True)
    try:
        result = subprocess.run(
            ["sbatch", "--parsable", str(path)], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise TrainError(
            f"wrote {path}, but there is no sbatch here; submit it where Slurm is"
        ) from None
    except subprocess.CalledProcessError as error:
        raise TrainError(f"sbatch refuses {path}: {error.stderr.strip()}") from None
    return result.stdout.strip()
