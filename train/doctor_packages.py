"""Checks of `tally doctor`: Python, packages, compiler, torch, GPU and driver, DeepSpeed.

torch and DeepSpeed are imported by processes of their own: a broken one can crash or hang.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from typing import Any

from configs.shipped import located_page
from train.doctor_finding import Finding, output_of

_IMPORT_LIMIT_S = 120
_REINSTALL = "install again: make setup, or pip install -c constraints.txt"
_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "available": cuda,
    "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
    "memory_gib": [torch.cuda.get_device_properties(n).total_memory / 2**30
                   for n in range(torch.cuda.device_count())],
    "bf16": torch.cuda.is_bf16_supported() if cuda else False,
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
    "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
}))
"""
_DEEPSPEED = """
import json, logging
logging.disable(logging.CRITICAL)
import deepspeed
built = getattr(deepspeed.ops, "__installed_ops__", {})
print(json.dumps({"version": deepspeed.__version__,
                  "accelerator": deepspeed.get_accelerator()._name,
                  "built": [name for name, there in built.items() if there]}))
"""


def python() -> list[Finding]:
    """Python's version and where it is."""
    said = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    return [Finding("python", "ok", said)]


def packages() -> list[Finding]:
    """Packages that are needed, against the versions this release was tested with."""
    tested = _tested()
    needed = [re.split(r"[^A-Za-z0-9._-]", text)[0] for text in _requirements()]
    missing, other = [], []
    for name in needed:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if (wanted := tested.get(_plain(name))) and found.split("+")[0] != wanted:
            other.append(f"{name} {found} (tested {wanted})")
    if missing:
        said = f"missing: {', '.join(missing)}"
        return [Finding("packages", "problem", said, _REINSTALL)]
    if other:
        return [Finding("packages", "warning", f"untested: {', '.join(other)}", _REINSTALL)]
    said = f"{len(needed)} there"
    return [Finding("packages", "ok", f"{said}, in the versions of constraints.txt")]


def _requirements() -> list[str]:
    try:
        return [text for text in metadata.requires("tallylm") or [] if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        return ["torch", "deepspeed", "datatrove", "tokenizers", "pydantic", "numpy"]


def _tested() -> dict[str, str]:
    path = located_page("constraints.txt")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name): version.split(";")[0].strip() for name, version in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def compiler() -> list[Finding]:
    """A C++ compiler and ninja, which torch.compile and DeepSpeed's own operations want."""
    wanted = [os.environ.get("CXX"), "g++", "clang++", "c++"]
    found = next((name for name in wanted if name and shutil.which(name)), None)
    if found is None:
        said = "no C++ compiler: engine.compile and offloaded optimizers will not work"
        return [Finding("compiler", "warning", said, "apt-get install g++, or set CXX")]
    version = (output_of([found, "--version"]) or found).splitlines()[0]
    ninja = "ninja is there" if shutil.which("ninja") else "no ninja (pip install ninja)"
    return [Finding("compiler", "ok", f"{version}; {ninja}")]


def torch() -> list[Finding]:
    """torch, the GPUs it sees, and whether it fits the driver."""
    facts, error = _probe(_TORCH)
    driver = _driver()
    if facts is None:
        said = f"cannot be imported ({error}): building and auditing work, training does not"
        return [Finding("torch", "problem", said, _REINSTALL), *_driver_alone(driver)]
    build = f"for CUDA {facts['cuda']}" if facts["cuda"] else "for the CPU alone"
    found = [Finding("torch", "ok", f"{facts['version']}, built {build}")]
    if not facts["gloo"]:
        way_out = "install an official build of torch"
        found.append(Finding("gloo", "problem", "torch lacks it: no training on CPUs", way_out))
    return [*found, *_gpus(facts, driver), *_nccl(facts)]


def _gpus(facts: dict[str, Any], driver: tuple[str, str] | None) -> list[Finding]:
    if facts["available"]:
        names = ", ".join(
            f"{name} ({memory:.0f} GiB)"
            for name, memory in zip(facts["gpus"], facts["memory_gib"], strict=True)
        )
        with_driver = f"; driver {driver[0]}, up to CUDA {driver[1]}" if driver else ""
        found = [Finding("gpu", "ok", names + with_driver)]
        if not facts["bf16"]:
            said = "no bfloat16: slow and inexact below Ampere"
            found.append(Finding("gpu", "warning", said, "set engine.precision to fp32"))
        return found
    if driver is None:
        return [Finding("gpu", "ok", "none (no nvidia-smi): training runs on the CPU")]
    said = f"driver {driver[0]} is there (up to CUDA {driver[1]}), but torch sees no GPU"
    if facts["cuda"] is None:
        way_out = "this torch has no CUDA: make TORCH_INDEX=<torch's index for your CUDA> setup"
    elif _number(facts["cuda"]) > _number(driver[1]):
        way_out = f"torch is built for CUDA {facts['cuda']}: a newer driver, or an older torch"
    else:
        way_out = "look at CUDA_VISIBLE_DEVICES, and in a container at --gpus all"
    return [Finding("gpu", "problem", said, way_out)]


def _nccl(facts: dict[str, Any]) -> list[Finding]:
    if not facts["available"]:
        return []
    if facts["nccl"] is None:
        return [Finding("nccl", "problem", "torch lacks it: GPUs cannot work together", _REINSTALL)]
    return [Finding("nccl", "ok", facts["nccl"])]


def _driver_alone(driver: tuple[str, str] | None) -> list[Finding]:
    if driver is None:
        return []
    return [Finding("gpu", "ok", f"driver {driver[0]}, up to CUDA {driver[1]}")]


def _driver() -> tuple[str, str] | None:
    """The driver's version and the newest CUDA it knows, by nvidia-smi."""
    said = output_of(["nvidia-smi"], timeout_s=30)
    if said is None:
        return None
    driver = re.search(r"Driver Version:\s*([\d.]+)", said)
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", said)
    return (driver[1] if driver else "unknown", cuda[1] if cuda else "unknown")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def deepspeed() -> list[Finding]:
    """DeepSpeed, and what it would compile."""
    facts, error = _probe(_DEEPSPEED)
    if facts is None:
        said = f"cannot be imported ({error}): `tally train` will not work"
        return [Finding("deepspeed", "problem", said, _REINSTALL)]
    built = ", ".join(facts["built"]) or "none"
    said = (
        f"{facts['version']} on {facts['accelerator']}; operations built beforehand: {built}. "
        "Training here needs none of them: nothing is compiled at its start"
    )
    return [Finding("deepspeed", "ok", said)]


def _probe(code: str) -> tuple[dict[str, Any] | None, str]:
    """What a program of its own prints as JSON, or why it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_IMPORT_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return None, f"takes more than {_IMPORT_LIMIT_S} s"
    if done.returncode == 0:
        facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return facts, ""
    lines = done.stderr.strip().splitlines()
    return None, lines[-1] if lines else f"ended with code {done.returncode}"


CHECKS = (python, packages, compiler, torch, deepspeed)
