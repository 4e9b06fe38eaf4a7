"""`python -m contamination audit ...`."""

from configs.terminal import main
from contamination.cli import app

main(app)
