"""One build at a time in a work directory; the lock names its owner and dies with it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import BuildError


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process.

    A POSIX record lock: the system drops it when the process ends in any way, and no child
    inherits it.

    Raises:
        BuildError: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise BuildError(
                f"{directory} is in use by another build ({_owner(file.read())}); "
                "wait for it to end, or choose another output with -o"
            ) from None
        file.truncate(0)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        file.write(json.dumps(owner))
        file.flush()
        yield


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']}, since {owner['started']}"
    except (ValueError, KeyError):
        return "it has not said which"
