"""Train runs one after another in the same processes: RUN:STEPS..., each to so many steps.

Starting a rank costs seconds, most of them for imports; tests of many small runs share them.
"""

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ROOT = Path(__file__).parent.parent


def start(
    ranks: int, asked: list[str], module: str, outputs: Sequence[IO[str]]
) -> "list[subprocess.Popen[bytes]]":
    """Start so many CPU ranks, one thread each; what each says goes to its file."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *asked],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=outputs[rank],
            stderr=subprocess.STDOUT,
        )
        for rank in range(ranks)
    ]


def train_together(ranks: int, asked: list[str], module: str = "tests.ranks") -> str:
    """Train prepared runs with so many CPU ranks to the end; returns what rank 0 said."""
    with ExitStack() as stack:  # files, since a pipe would fill up
        said = [stack.enter_context(TemporaryFile("w+")) for _ in range(ranks)]
        processes = start(ranks, asked, module, said)
        codes = [process.wait(timeout=1800) for process in processes]
        for file in said:
            file.seek(0)
        texts = [file.read() for file in said]
        assert codes == [0] * ranks, "\n".join(texts)
        return texts[0]


def main() -> None:
    """Train what the command line names."""
    gc.disable()  # as `tally train`'s ranks
    from train.session import leave_ranks
    from train.worker import train_segments

    for item in sys.argv[1:]:
        run, steps = item.rsplit(":", 1)
        train_segments(Path(run), int(steps), lambda: False)
    leave_ranks()


if __name__ == "__main__":
    main()
