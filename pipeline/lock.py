"""One build at a time in a work directory."""

from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.errors import BuildError
from shards.lock import held


def locked(directory: Path) -> AbstractContextManager[None]:
    """Hold `directory` for this process.

    Raises:
        BuildError: another process holds it; says which.
    """
    what = f"{directory} is in use by another build"
    way_out = "wait for it to end, or choose another output with -o"
    return held(directory / "lock", what, way_out, BuildError)
