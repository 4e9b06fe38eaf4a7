"""A tiny dataset and run for the scripts that train on several hosts: DIR/dataset, DIR/train.yaml.

python -m tests.multinode.prepare DIR
"""

import sys
from pathlib import Path

from tests.test_train_run import Bench

if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    Bench(Path(sys.argv[1]))
