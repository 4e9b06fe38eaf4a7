"""One process that tries all faults of `io_faults.c` on `tally convert`, since starting costs most.

`python -m tests.faulty_process DATASET OUT KIND...`, started with LD_PRELOAD, prints a line of JSON
a kind: exit code, what was said, whether anything was left, whether the next try made the same.
`--user N` becomes that user first.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

from configs.terminal import main
from shards import convert
from shards.cli import app


def attempt(source: str, out: Path) -> tuple[int, str]:
    """Run the command; exit code and what it said on stderr."""
    sys.argv = ["tally", "convert", source, str(out), "--to", "llmc"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main(app)
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()
    return 0, said.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def drive(source: str, out: Path, kinds: list[str]) -> None:
    """Try every kind."""
    attempt(source, out)
    calm = tree(out)
    shutil.rmtree(out)
    os.environ["IO_MATCH"] = "/out/"
    for kind in kinds:
        os.environ["IO_FAULT"] = kind
        os.environ["CLOCK_JUMP"] = "90000" if kind == "clock" else "0"
        code, said = attempt(source, out)
        os.environ["IO_FAULT"], os.environ["CLOCK_JUMP"] = "", "0"
        left = out.exists()
        again = attempt(source, out)[0] if code else 0
        same = again == 0 and tree(out) == calm
        print(json.dumps({"kind": kind, "code": code, "said": said, "left": left, "same": same}))
        shutil.rmtree(out)


def as_user(source: str, out: Path, user: int) -> None:
    """As a user who may not write there, then as one who may."""
    convert.find_format("llmc")  # loaded while its files can still be read
    out.parent.mkdir(mode=0o755)
    if os.fork() == 0:
        os.setgroups([])
        os.setuid(user)
        print(json.dumps(attempt(source, out)), flush=True)
        os._exit(0)
    os.wait()
    out.parent.chmod(0o777)
    os.setuid(user)
    print(json.dumps(attempt(source, out)))


if __name__ == "__main__":
    if sys.argv[3] == "--user":
        as_user(sys.argv[1], Path(sys.argv[2]), int(sys.argv[4]))
    else:
        drive(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
