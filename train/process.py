"""Settings of a process that evaluates; they count only before torch and datasets are imported."""

import logging
import os
from pathlib import Path

_SETTINGS = {
    # Our own progress display is the only one.
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # lm-eval's bootstrap would start a process for every core, and say so.
    "DISABLE_MULTIPROC": "1",
    # OpenMP's waiting threads spin by default; on a busy machine that made us 5 times slower.
    "OMP_WAIT_POLICY": "passive",
}
# Where all files are local nothing shall wait for a network.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def prepare_process(*, online: bool = False) -> None:
    """Quiet and polite to other processes; settings made by the user stay.

    Args:
        online: the hub may be asked.
    """
    for name, value in (_SETTINGS if online else _SETTINGS | _OFFLINE).items():
        os.environ.setdefault(name, value)
    if not nvidia_driver():  # transformers imports DeepSpeed, which else warns that it sees no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in ("lm_eval", "transformers", "huggingface_hub", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)


def nvidia_driver() -> bool:
    """Whether this machine can have GPUs, known without importing torch."""
    return Path("/dev/nvidiactl").exists()
