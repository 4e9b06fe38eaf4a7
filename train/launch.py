"""Start the ranks with DeepSpeed's launcher and stay between them and the user.

The launcher gets a session of its own, so that Ctrl-C reaches this process alone; it then asks
the ranks to save and leave through a file in RUN, which works wherever the ranks are.
"""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from configs.terminal import console, counted
from configs.train import EngineConfig, LaunchConfig
from shards.atomic import write_text_atomic
from train.errors import TrainError
from train.process import nvidia_driver
from train.run_dir import STOP_NAME

_LOOPBACK = "127.0.0.1"
LAUNCHER_VARIABLE = "TALLY_LAUNCHER"
"""`HOST:PID` of `tally train`, for the ranks of that machine to see that it still lives."""
HOSTS_ENV_NAME = "hosts.env"
_HANDED_ON = ("TALLY_", "DEEPSPEED_", "DS_ACC", "GLOO_", "OMP_", "MALLOC_", "TORCH_")
# A machine that vanishes closes no connection: ssh asks every 15 s and gives it up after a minute.
_SSH_ALIVE = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
ON_CPU = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
"""Variables of a rank that computes on the CPU, whatever the machine has."""
EXIT_STOPPED = 75
"""A rank's exit code after stopping on request with a checkpoint (EX_TEMPFAIL: run it again)."""


def num_gpus() -> int:
    """GPUs of this machine; torch is not imported where there can be none."""
    if not nvidia_driver():
        return 0
    import torch

    return torch.cuda.device_count()


class Place(NamedTuple):
    """Where the ranks run."""

    ranks: int
    on_gpus: bool
    hostfile: Path | None = None
    """DeepSpeed's list of machines, where there are several."""


def choose_place(
    wanted: LaunchConfig, ranks: int | None, gpus: int | None, hostfile: Path | None = None
) -> Place:
    """Where to run: as asked on the command line (CPU ranks or GPUs), else by the config.

    Raises:
        TrainError: more GPUs are wanted than there are, or the hostfile cannot be used.
    """
    if hostfile:
        if ranks or gpus:
            raise TrainError("give --hostfile or a number of ranks; its slots are the ranks")
        return Place(sum(read_hostfile(hostfile).values()), wanted.device != "cpu", hostfile)
    if ranks and gpus:
        raise TrainError("give --ranks (processes on the CPU) or --gpus, not both")
    if ranks or wanted.device == "cpu":
        return Place(ranks or wanted.ranks or 1, on_gpus=False)
    there = num_gpus()
    if not there and not gpus and wanted.device == "auto":
        return Place(wanted.ranks or 1, on_gpus=False)
    place = Place(gpus or wanted.ranks or max(there, 1), on_gpus=True)
    if place.ranks > there:
        raise TrainError(
            f"{place.ranks} GPU(s) wanted, {there} found; lower --gpus or launch.ranks, or train "
            "on the CPU with --ranks"
        )
    return place


def read_hostfile(path: Path) -> dict[str, int]:
    """Ranks by machine, from lines `worker-1 slots=8`; `#` begins a comment.

    Raises:
        TrainError: it is missing, empty, or a line is neither.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such hostfile; write a line `HOST slots=GPUS` a machine")
    hosts: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        match = re.fullmatch(r"(\S+)\s+slots=(\d+)", text)
        if text and (match is None or match[1] in hosts):
            raise TrainError(f"{path}, line {number}: expected `HOST slots=GPUS`, each host once")
        if match:
            hosts[match[1]] = int(match[2])
    if not sum(hosts.values()):
        raise TrainError(f"{path}: names no machine with slots; write `HOST slots=GPUS`")
    return hosts


def announce_compile(engine: EngineConfig) -> None:
    """Say that the first step will take long, or that it cannot be compiled here.

    Raises:
        TrainError: `engine.compile` is on and there is no C++ compiler.
    """
    if not engine.compile:
        return
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    if not any(name and shutil.which(name) for name in names):
        raise TrainError(
            "engine.compile is on and there is no C++ compiler (c++, g++ or clang++, or the one "
            "that CXX names); install one, or set engine.compile=false"
        )
    console.print("engine.compile is on: the first step compiles the model, a minute or more")


def launch(run_dir: Path, place: Place, stop_after: int | None) -> int:
    """Run the ranks to their end; returns their exit code (see train/worker.py).

    Args:
        run_dir: a prepared RUN directory.
        place: how many ranks, on what.
        stop_after: steps after which to stop, counted from the beginning of the run.
    """
    (run_dir / STOP_NAME).unlink(missing_ok=True)
    machines = f", machines of {place.hostfile}" if place.hostfile else ""
    device = "GPU" if place.on_gpus else "CPU"
    console.print(f"starting {counted(place.ranks, 'rank')} on the {device}{machines}")
    environment = _environment(place)
    if place.hostfile:
        _hand_on(environment, run_dir / HOSTS_ENV_NAME)
    process = subprocess.Popen(
        _command(run_dir, place, stop_after), env=environment, start_new_session=True
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, _Stopper(process, run_dir))
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _kill(process)
        (run_dir / STOP_NAME).unlink(missing_ok=True)


class _Stopper:
    """First signal: ask the ranks to save and leave. Second: end them at once."""

    def __init__(self, process: "subprocess.Popen[bytes]", run_dir: Path) -> None:
        self._process, self._file = process, run_dir / STOP_NAME

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._file.exists():
            _kill(self._process)
            return
        self._file.touch()
        console.print("stopping after this step, with a checkpoint; again: stop at once")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End whatever is left of the launcher's session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _command(run_dir: Path, place: Place, stop_after: int | None) -> list[str]:
    options = ["--log_level", "critical", "--master_port", str(_free_port()), "--no_local_rank"]
    if place.hostfile:
        launcher = ["deepspeed.launcher.runner", *options, "--hostfile"]
        launcher += [str(place.hostfile.resolve())]
        if len(read_hostfile(place.hostfile)) == 1:  # DeepSpeed starts it here, not by ssh
            launcher += ["--no_ssh_check", "--master_addr", _LOOPBACK]
    else:  # what the runner would start on one machine; each of the two imports torch, 2 s
        here = json.dumps({"localhost": accelerators(place)}).encode()
        launcher = ["deepspeed.launcher.launch", *options, "--master_addr", _LOOPBACK]
        launcher += ["--world_info", base64.urlsafe_b64encode(here).decode()]
    worker = ["--module", "train", "worker", str(run_dir.resolve())]
    worker += [str(stop_after)] if stop_after is not None else []
    return [sys.executable, "-u", "-m", *launcher, *worker]


def accelerators(place: Place) -> list[int]:
    """Which accelerators of this machine: the first of those that the user is shown.

    Raises:
        TrainError: they are named in a way that DeepSpeed's launcher does not know.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if place.on_gpus else None
    if not visible:
        return list(range(place.ranks))
    names = [name.strip() for name in visible.split(",")][: place.ranks]
    if not all(name.isdigit() for name in names):
        raise TrainError(
            f"CUDA_VISIBLE_DEVICES={visible}: DeepSpeed's launcher knows GPUs by number only; give "
            "the numbers that `nvidia-smi -L` shows"
        )
    return [int(name) for name in names]


def _environment(place: Place) -> dict[str, str]:
    """Variables of the ranks; the user's own settings win where it is theirs to choose."""
    root = Path(__file__).parent.parent
    values = dict(os.environ)
    # This checkout's `train`, not a train.py in the current folder.
    values["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [values.get("PYTHONPATH")])])
    values["PYTHONSAFEPATH"] = "1"
    values[LAUNCHER_VARIABLE] = f"{socket.gethostname()}:{os.getpid()}"
    if not place.on_gpus:
        values |= ON_CPU
        if not place.hostfile:
            values["GLOO_SOCKET_IFNAME"] = _loopback_interface()
        here = max(read_hostfile(place.hostfile).values()) if place.hostfile else place.ranks
        threads = max(1, len(os.sched_getaffinity(0)) // here)
        values.setdefault("OMP_NUM_THREADS", str(threads))
        # glibc would return each large tensor to the system and fault its pages in again: a
        # fifth of a step's time where the vocabulary is large for the model.
        values.setdefault("MALLOC_MMAP_MAX_", "0")
        values.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 34))
    return values


def _hand_on(values: dict[str, str], path: Path) -> None:
    """Have the ranks of other machines get our variables, by the file that DeepSpeed reads.

    By itself it hands on PYTHON* and NCCL* only. What the user wrote for it comes first.
    """
    name = os.environ.get("DS_ENV_FILE", ".deepspeed_env")
    theirs = [file for file in (Path.home() / name, Path.cwd() / name) if file.is_file()]
    lines = [line for file in theirs for line in file.read_text(encoding="utf-8").splitlines()]
    ours = {key: value for key, value in values.items() if key.startswith(_HANDED_ON)}
    lines += [f"{key}={value}" for key, value in sorted(ours.items())]
    write_text_atomic(path, "".join(f"{line}\n" for line in dict.fromkeys(lines) if line.strip()))
    values["DS_ENV_FILE"] = str(path.resolve())
    values["PDSH_SSH_ARGS_APPEND"] = f"{values.get('PDSH_SSH_ARGS_APPEND', '')} {_SSH_ALIVE}"


def _loopback_interface() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), "lo")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        return int(listener.getsockname()[1])
