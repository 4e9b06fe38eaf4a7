"""`python -m train`: the same commands as `tally train`, `tally plan`, ..."""

from configs.terminal import main
from train.cli import app

if __name__ == "__main__":
    main(app)
