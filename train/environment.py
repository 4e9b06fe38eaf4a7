"""RUN/environment.json: what the run ran on, for whoever wants to repeat or explain it."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from shards.atomic import write_json_atomic
from shards.plan import Plan

_PACKAGES = ("deepspeed", "numpy", "safetensors", "tokenizers", "torch")


def write_environment(
    run_dir: Path, plan: Plan, world_size: int, device: torch.device, first_step: int
) -> None:
    """Write RUN/environment.json: of this start, and how many ranks the starts before it had.

    Args:
        run_dir: the RUN directory.
        plan: of the run.
        world_size: ranks.
        device: of this rank.
        first_step: that this start trains; what was done from it on before does not count.
    """
    path = run_dir / "environment.json"
    before = json.loads(path.read_bytes()).get("starts", []) if path.is_file() else []
    starts = [start for start in before if start["first_step"] < first_step]
    if not starts or starts[-1]["world_size"] != world_size:
        starts.append({"first_step": first_step, "world_size": world_size})
    write_json_atomic(path, environment(plan, world_size, device) | {"starts": starts})


def environment(plan: Plan, world_size: int, device: torch.device) -> dict[str, Any]:
    """Packages, machine, commit and dataset ids of this start."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
        "device_type": device.type,
        "cpu_cores": len(os.sched_getaffinity(0)),
        "world_size": world_size,
        "threads_per_rank": torch.get_num_threads(),
        "git_commit": git_commit(),
        "plan_id": plan.plan_id,
        "datasets": {source.name: source.dataset_id for source in plan.sources},
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() or platform.machine()


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def git_commit() -> str | None:
    """Commit of this checkout, with "+changes" where files differ; None outside of git."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
