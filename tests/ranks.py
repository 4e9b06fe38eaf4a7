"""Train runs one after another in the same processes: RUN:STEPS..., each to so many steps.

Starting a rank costs seconds, most of them for imports; tests of many small runs share them.
"""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).parent.parent


def train_together(ranks: int, asked: list[str], module: str = "tests.ranks") -> str:
    """Train prepared runs with so many CPU ranks, one thread each; returns what rank 0 said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:  # files, since a pipe would fill up
        said = [stack.enter_context(TemporaryFile("w+")) for _ in range(ranks)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", module, *asked],
                cwd=ROOT,
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            for rank, file in enumerate(said)
        ]
        codes = [process.wait(timeout=600) for process in processes]
        for file in said:
            file.seek(0)
        texts = [file.read() for file in said]
        assert codes == [0] * ranks, "\n".join(texts)
        return texts[0]


def main() -> None:
    """Train what the command line names."""
    from train.session import leave_ranks
    from train.worker import train_segments

    for item in sys.argv[1:]:
        run, steps = item.rsplit(":", 1)
        train_segments(Path(run), int(steps), lambda: False)
    leave_ranks()


if __name__ == "__main__":
    main()
