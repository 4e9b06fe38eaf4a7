"""Feed damaged files to the parsers: `python -m tests.fuzz --cases 1000000`.

Each target (`tests.fuzz_targets`) gets mutations of its examples. A case is a bug where it raises
what is not ours, takes more than five seconds of processor time, or asks for more memory than the
process may have.
"""

import argparse
import collections
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from configs.terminal import is_user_error, machine_trouble
from tests.fuzz_readers import reader_targets
from tests.fuzz_targets import Target, targets
from tests.mutations import mutations

_MOST_S = 5.0
_ROOM_BYTES = 2 << 30  # that a case may ask for beyond what the process has


class Bug(NamedTuple):
    """What a case did."""

    target: str
    said: str
    data: bytes


class Outcome(NamedTuple):
    """What became of the cases of a target."""

    read: int
    refused: int
    bugs: list[Bug]
    seconds: float


def limit_memory() -> None:
    """Let this process have two gigabytes more than now; asking for more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _ROOM_BYTES, resource.RLIM_INFINITY))


def all_targets(folder: Path) -> Iterator[Target]:
    """Every parser; files are made below `folder`."""
    yield from targets(folder)
    yield from reader_targets(folder / "readers")


def fuzz(target: Target, seed: int, count: int) -> Outcome:
    """Run `count` cases of a target."""
    read = refused = 0
    bugs: dict[str, Bug] = {}
    signal.signal(signal.SIGVTALRM, _too_long)  # readers of web pages use SIGPROF
    start = time.monotonic()
    for data in mutations(target.examples, seed, count):
        signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_S)
        try:
            target.parse(data)
            read += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if is_user_error(error) or machine_trouble(error):  # either is a line without traceback
                refused += 1
            else:
                bugs.setdefault(_place(error), Bug(target.name, _said(error), data))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return Outcome(read, refused, list(bugs.values()), time.monotonic() - start)


def _too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"more than {_MOST_S} seconds")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/main/" in f.filename and ".venv" not in f.filename]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} {last.filename}:{last.lineno}"


def _said(error: BaseException) -> str:
    return f"{_place(error)}: {str(error)[:200]}"


def main() -> None:
    """Fuzz all targets and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of a target's name")
    parser.add_argument("--keep", type=Path, help="folder for the cases that are bugs")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    total = collections.Counter[str]()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        chosen = [t for t in all_targets(Path(folder)) if given.only in t.name]
        limit_memory()
        share = given.cases // sum(_weight(t) for t in chosen)
        for target in chosen:
            outcome = fuzz(target, given.seed, share * _weight(target))
            count = outcome.read + outcome.refused
            rate = share * _weight(target) / outcome.seconds
            print(f"{target.name:28} {count:8,} cases  {outcome.read:8,} read  "
                  f"{outcome.refused:8,} refused  {rate:8,.0f}/s  {len(outcome.bugs)} bugs",
                  flush=True)  # fmt: skip
            for number, bug in enumerate(outcome.bugs):
                print(f"    {bug.said}", flush=True)
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    name = target.name.replace(" ", "_").replace("/", "_")
                    (given.keep / f"{name}-{number}").write_bytes(bug.data)
            total += collections.Counter(
                cases=count, read=outcome.read, refused=outcome.refused, bugs=len(outcome.bugs)
            )
    print(dict(total))
    sys.exit(1 if total["bugs"] else 0)


def _weight(target: Target) -> int:
    """Cases of a target against those of the slowest ones."""
    quick = ("look-up", ".idx", ".index", "manifest", "llmc", ".csv", ".gz")
    slow = (
        "parquet", "yaml", "tokenizer", "audited", "samples", "document index", "inside", "warc",
        "checkpoint", "audit.json", "datasets",
    )  # fmt: skip
    if any(word in target.name for word in slow):
        return 1
    return 20 if any(word in target.name for word in quick) else 4


if __name__ == "__main__":
    main()
