"""One process at a time at an output: a lock file that names its owner and goes when it does.

A POSIX record lock: the system drops it when the process ends in any way, and no child inherits
it. It works over NFS; where a file system has no locks, nothing is written there.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from shards.errors import DatasetError

_BUSY = {errno.EAGAIN, errno.EACCES}
_here: set[str] = set()  # held by this process, to which the system would give them again


@contextmanager
def held(
    path: Path, what: str, way_out: str, error: type[Exception] = DatasetError
) -> Iterator[None]:
    """Hold the lock file `path`, which exists while it is held.

    Args:
        path: the lock file.
        what: what is locked, and by what kind of owner ("DIR is in use by another build"); the
            message goes on with the owner's name.
        way_out: what the user can do about it.
        error: what to raise.

    Raises:
        DatasetError: another process holds it, or the file system has no locks; or `error`.
    """
    name = str(path.resolve())
    if name in _here:
        raise error(f"{what} ({_owner_text()}); {way_out}")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _taken(path, what, way_out, error)
    _here.add(name)
    try:
        _say_owner(path, file)
        yield
    finally:
        _here.discard(name)
        path.unlink(missing_ok=True)  # while it is ours: whoever waits for it looks again
        file.close()


def _taken(path: Path, what: str, way_out: str, error: type[Exception]) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            with file:
                file.seek(0)
                owner = file.read().strip() or "it has not said which"
            if reason.errno in _BUSY:
                raise error(f"{what} ({owner}); {way_out}") from None
            raise error(no_locks(path, reason)) from None
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the last owner removed it between our opening and our locking it


def _say_owner(path: Path, file: IO[str]) -> None:
    try:
        file.truncate(0)
        file.write(_owner_text())
        file.flush()
    except OSError as error:
        error.filename = str(path)  # the system names no file where writing fails
        raise


def no_locks(path: Path, reason: OSError) -> str:
    """What to say of a file system that cannot lock."""
    return (
        f"{path}: its file system has no locks ({reason.strerror}, errno {reason.errno}), and two "
        "processes could write there at once; mount it with locks, or write to another place"
    )


def _owner_text() -> str:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {started}"
