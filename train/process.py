"""Settings of a process that evaluates; they count only before torch and datasets are imported."""

import logging
import os

_SETTINGS = {
    # Benchmarks are local files: nothing shall wait for a network.
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # Our own progress display is the only one.
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # OpenMP's waiting threads spin by default; on a busy machine that made us 5 times slower.
    "OMP_WAIT_POLICY": "passive",
}


def prepare_process() -> None:
    """Offline, quiet, and polite to other processes; settings made by the user stay."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
