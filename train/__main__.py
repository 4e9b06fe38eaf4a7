"""`python -m train`: the same commands as `tally train`, `tally plan`, ..."""

from configs.terminal import main
from train.cli import app
from train.results_cli import app as results_app

app.registered_commands += results_app.registered_commands

if __name__ == "__main__":
    main(app)
