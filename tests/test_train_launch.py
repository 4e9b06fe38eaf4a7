"""Where the ranks run: the command line first, then the config, then what the machine has."""

import pytest

from configs.train import LaunchConfig
from train.errors import TrainError
from train.launch import Place, choose_place, num_gpus

no_gpu = pytest.mark.skipif(num_gpus() > 0, reason="for machines without a GPU")


def test_ranks_mean_the_cpu() -> None:
    assert choose_place(LaunchConfig(ranks=2), ranks=3, gpus=None) == Place(3, on_gpus=False)


def test_config_can_ask_for_the_cpu() -> None:
    wanted = LaunchConfig(device="cpu", ranks=2)
    assert choose_place(wanted, ranks=None, gpus=None) == Place(2, on_gpus=False)
    assert choose_place(LaunchConfig(device="cpu"), None, None) == Place(1, on_gpus=False)


def test_ranks_and_gpus_exclude_each_other() -> None:
    with pytest.raises(TrainError, match="not both"):
        choose_place(LaunchConfig(), ranks=1, gpus=1)


@no_gpu
def test_without_gpus_auto_is_the_cpu_and_gpus_are_refused() -> None:
    assert choose_place(LaunchConfig(), ranks=None, gpus=None) == Place(1, on_gpus=False)
    assert choose_place(LaunchConfig(ranks=2), None, None) == Place(2, on_gpus=False)
    with pytest.raises(TrainError, match=r"2 GPU\(s\) wanted, 0 found"):
        choose_place(LaunchConfig(), ranks=None, gpus=2)
    with pytest.raises(TrainError, match=r"1 GPU\(s\) wanted, 0 found"):
        choose_place(LaunchConfig(device="gpu"), ranks=None, gpus=None)
