"""`python -m shards`: the dataset and accounting commands without the rest."""

from configs.terminal import main
from shards.cli import app

main(app)
