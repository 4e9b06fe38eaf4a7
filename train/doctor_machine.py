"""Checks of `tally doctor`: cores, memory, shared memory, open files, disks, locale, clock."""

import datetime
import fcntl
import locale
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from train.doctor_finding import Finding

_GIB = 2**30
_TRIAL_BYTES = 64 * 2**20
_SLOW = 50e6
"""Bytes a second of a disk below which builds wait for it."""
_LITTLE, _VERY_LITTLE = 20e9, 1e9
_FEW_FILES = 4096
_SMALL_SHM = 1 * _GIB
_LITTLE_MEMORY = 4 * _GIB
_CGROUP = Path("/sys/fs/cgroup")
_RELEASED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def cores() -> list[Finding]:
    """Cores that this process may use."""
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    limit = _cgroup_cores()
    said = f"{usable} of {there} usable"
    if limit is not None and limit < usable:
        said += f", but this container has the time of {limit:.1f}"
        way_out = f"give --workers {max(1, round(limit))} to builds and audits"
        return [Finding("cores", "warning", said, way_out)]
    return [Finding("cores", "ok", said)]


def _cgroup_cores() -> float | None:
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def memory() -> list[Finding]:
    """Memory that is free, in the machine and in the container."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _cgroup_memory()
    free = min(free, limit)
    said = f"{free / _GIB:.1f} of {min(total, limit) / _GIB:.1f} GiB free"
    if free < _LITTLE_MEMORY:
        way_out = "a build takes about 1 GiB a worker: give --workers less, or end other programs"
        return [Finding("memory", "warning", said, way_out)]
    return [Finding("memory", "ok", said)]


def _cgroup_memory() -> int:
    try:
        return int((_CGROUP / "memory.max").read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return sys.maxsize


def shared_memory() -> list[Finding]:
    """/dev/shm, by which the ranks of a machine speak to each other."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        way_out = "mount a tmpfs there"
        return [Finding("shared memory", "warning", "no /dev/shm: NCCL wants it", way_out)]
    size = shutil.disk_usage(folder)
    said = f"/dev/shm has {size.free / _GIB:.2f} of {size.total / _GIB:.2f} GiB free"
    if size.free < _SMALL_SHM:
        said += ": NCCL with several GPUs may fail"
        return [Finding("shared memory", "warning", said, "docker run --shm-size=8g")]
    return [Finding("shared memory", "ok", said)]


def open_files() -> list[Finding]:
    """How many files a process may have open; a dataset has three a shard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{soft:,} a process, at most {hard:,}"
    if soft < _FEW_FILES:
        said += ": a dataset of many shards may be refused"
        return [Finding("open files", "warning", said, f"ulimit -n {min(hard, 65_536)}")]
    return [Finding("open files", "ok", said)]


def language() -> list[Finding]:
    """Whether texts and file names are UTF-8."""
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") != "utf8":
        said = f"text is {encoding} here: tables and names of documents may look broken"
        return [Finding("locale", "warning", said, "export LC_ALL=C.UTF-8")]
    return [Finding("locale", "ok", "UTF-8")]


def clock() -> list[Finding]:
    """Whether the date can be right; certificates and S3 are refused with a wrong one."""
    now = datetime.datetime.now(datetime.UTC)
    said = now.isoformat(timespec="seconds")
    if now < _RELEASED:
        said += " is before this release: certificates and S3 will be refused"
        return [Finding("clock", "problem", said, "set the clock (timedatectl, chrony)")]
    return [Finding("clock", "ok", said)]


def disk(topic: str, folder: Path) -> list[Finding]:
    """Free space, speed and locks where a folder is, or would be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{place}: {free / 1e9:.0f} GB free"
    try:
        speed = _written_a_second(place)
    except OSError as error:
        said = f"{place}: cannot be written to: {error.strerror or error}"
        way_out = "choose another folder with -o, or TALLY_CACHE, or change its permissions"
        return [Finding(topic, "problem", said, way_out)]
    said += f", written at {speed / 1e6:.0f} MB/s"
    if free < _VERY_LITTLE:
        return [Finding(topic, "problem", said, "make room: nothing can be built here")]
    if free < _LITTLE:
        way_out = "a build takes about ten bytes a token for a while: make room for a large one"
        return [Finding(topic, "warning", said, way_out)]
    if speed < _SLOW:
        way_out = "builds will wait for this disk; choose a local one"
        return [Finding(topic, "warning", said, way_out)]
    return [Finding(topic, "ok", said)]


def _written_a_second(place: Path) -> float:
    """Bytes a second that reach the disk; a lock is tried as well."""
    data = os.urandom(2**20)
    with tempfile.TemporaryFile(dir=place) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        start = time.perf_counter()
        for _ in range(_TRIAL_BYTES // len(data)):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return _TRIAL_BYTES / (time.perf_counter() - start)


CHECKS = (cores, memory, shared_memory, open_files, language, clock)
