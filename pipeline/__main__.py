"""Run the folder's commands: `python -m pipeline build CONFIG`."""

from configs.terminal import main
from pipeline.cli import app

if __name__ == "__main__":
    main(app)
