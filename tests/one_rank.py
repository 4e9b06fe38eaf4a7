"""Train runs one after another in this process: RUN:STEPS..., each to so many steps.

Starting a rank costs seconds, most of them for imports; tests of many small runs share one.
"""

import os
import sys
from pathlib import Path

os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "CUDA_VISIBLE_DEVICES": ""}

from train.session import leave_ranks
from train.worker import train_segments


def main() -> None:
    """Train what the command line names."""
    for item in sys.argv[1:]:
        run, steps = item.rsplit(":", 1)
        train_segments(Path(run), int(steps), lambda: False)
    leave_ranks()


if __name__ == "__main__":
    main()
