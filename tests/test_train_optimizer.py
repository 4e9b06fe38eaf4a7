"""Which parameters decay, and that nothing is left out of the optimizer."""

import pytest
import torch

from configs.model import ModelConfig
from configs.optimizer import OptimizerConfig
from train.model import Decoder
from train.optimizer import build_optimizer, decays, set_lr

MODEL = ModelConfig(
    vocab_size=11,
    num_layers=1,
    d_model=8,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    ffn_dim=12,
    max_seq_len=4,
    tie_embeddings=False,
)
NORMS = {"layers.0.attention_norm.weight", "layers.0.ffn_norm.weight", "norm.weight"}
TABLES = {"embedding.weight", "head.weight"}


@pytest.mark.parametrize(
    ("rule", "exempt"),
    [("matrices", NORMS), ("matrices_but_embeddings", NORMS | TABLES), ("all", set())],
)
def test_decay_rules(rule: str, exempt: set[str]) -> None:
    config = OptimizerConfig.model_validate({"lr": 0.1, "decay": rule})
    named = dict(Decoder(MODEL).named_parameters())
    assert {name for name, p in named.items() if not decays(name, p, config)} == exempt


def test_groups_hold_every_parameter_once() -> None:
    model = Decoder(MODEL)
    config = OptimizerConfig(lr=0.1, weight_decay=0.3, betas=(0.8, 0.99), eps=1e-6)
    optimizer = build_optimizer(model.named_parameters(), config)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {
        ((0.8, 0.99), 1e-6)
    }


def test_first_step_is_lr_times_sign_and_decay() -> None:
    """Adam's first step is lr * g / |g|; decoupled decay takes lr * weight_decay of the weight."""
    weight = torch.nn.Parameter(torch.tensor([[2.0, -4.0]]))
    optimizer = build_optimizer([("w", weight)], OptimizerConfig(lr=1.0, weight_decay=0.5))
    set_lr(optimizer, 0.1)
    weight.grad = torch.tensor([[3.0, -0.2]])
    optimizer.step()
    expected = torch.tensor([[2.0 * 0.95 - 0.1, -4.0 * 0.95 + 0.1]])
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)
