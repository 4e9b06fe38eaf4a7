"""Singular values by hand, and which matrices are named."""

import pytest
import torch

from configs.train import SentinelConfig
from train.sentinel import SingularValues, extremes, warn


def test_extremes_of_a_known_matrix() -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    matrix = rotation @ torch.diag(torch.tensor([5.0, 3.0, 0.5, 2.0]))
    assert extremes(matrix).tolist() == pytest.approx([0.5, 5.0], rel=1e-5)
    assert extremes(matrix[:, :2].bfloat16()).tolist() == pytest.approx([3.0, 5.0], rel=1e-2)
    assert extremes(torch.zeros(3, 5)).tolist() == [0.0, 0.0]


def test_only_what_is_below_the_limit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, SingularValues] = {
        "layers.0.q": {"smallest": 1e-5, "largest": 1.0, "ratio": 1e-5},
        "layers.1.q": {"smallest": 1e-3, "largest": 1.0, "ratio": 1e-3},
    }
    warn(found, SentinelConfig(min_ratio=1e-4), step=7)
    said = " ".join(capsys.readouterr().out.split())
    assert "step 7: the smallest singular value of 1 of 2 matrices is below 1e-04" in said
    assert "layers.0.q (1.0e-05)" in said
    assert "layers.1.q" not in said
    warn(found, SentinelConfig(min_ratio=1e-6), step=8)
    assert capsys.readouterr().out == ""
