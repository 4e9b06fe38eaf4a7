"""A cache changes nothing: same logits as reading everything at once, for every architecture."""

from pathlib import Path

import pytest
import torch

from configs.loading import load
from configs.train import TrainConfig
from train.decoding import Chooser, Sampling, continue_rows, draw
from train.kv_cache import KVCache
from train.model import Decoder

TINY = Path(__file__).parent.parent / "configs/recipes/tiny"
RECIPES = sorted(path.stem for path in TINY.glob("*.yaml"))


def model_of(recipe: str) -> Decoder:
    """The recipe's tiny model with random weights everywhere, so that every switch counts."""
    config = load(TINY / f"{recipe}.yaml", TrainConfig).model
    model = Decoder(config.model_copy(update={"vocab_size": 300})).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 300, (rows, length), generator=torch.Generator().manual_seed(1))


def test_every_switch_of_the_models_is_tried() -> None:
    assert {"gelu_d12_261m", "shard_54m", "tinylm_275m_b", "l20_edu_135m"} <= set(RECIPES)
    switches = [load(TINY / f"{name}.yaml", TrainConfig).model for name in RECIPES]
    assert any(c.mla for c in switches)
    assert any(c.nanochat and c.short_window and c.rope_backwards for c in switches)
    assert any(c.num_kv_heads < c.num_heads for c in switches)
    assert any(c.rope_pairs == "neighbours" for c in switches)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.inference_mode()
def test_cached_logits_are_those_of_the_whole_row(recipe: str) -> None:
    model, tokens_BT = model_of(recipe), tokens(3, 70)
    whole_BTV = model(tokens_BT)
    cache, parts = KVCache(70), []
    for piece in (tokens_BT[:, :40], tokens_BT[:, 40:41], tokens_BT[:, 41:60], tokens_BT[:, 60:]):
        parts.append(model.logits(model.hidden(piece, cache=cache)))
    assert cache.num_positions == 70
    torch.testing.assert_close(torch.cat(parts, 1), whole_BTV, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.inference_mode()
def test_padding_on_the_left_is_not_seen(recipe: str) -> None:
    model, tokens_BT = model_of(recipe), tokens(2, 60)
    padding = [0, 17]
    cache = KVCache(60, torch.tensor(padding))
    found = [
        model.logits(model.hidden(piece, cache=cache))
        for piece in (tokens_BT[:, :45], tokens_BT[:, 45:46], tokens_BT[:, 46:])
    ]
    for row, pad in enumerate(padding):
        alone = model(tokens_BT[row : row + 1, pad:])[0]
        torch.testing.assert_close(torch.cat(found, 1)[row, pad:], alone, atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_greedy_rows_are_those_without_a_cache() -> None:
    model = model_of("gelu_d12_261m")
    prompts = [[5, 6, 7], [9], list(range(40, 75))]

    def never(number: int, row: list[int]) -> bool:
        return False

    found = continue_rows(model, prompts, 12, 0, Chooser(Sampling(), [0, 0, 0]), never)
    for prompt, row in zip(prompts, found, strict=True):
        ids = list(prompt)
        for token in row:
            assert token == int(model(torch.tensor([ids]))[0, -1].argmax())
            ids.append(token)
    assert [len(row) for row in found] == [12, 12, 12]


def test_drawing_keeps_to_top_k_and_top_p() -> None:
    logits_V = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)

    def drawn(sampling: Sampling) -> set[int]:
        return {draw(logits_V, sampling, generator) for _ in range(300)}

    assert drawn(Sampling(1.0, top_k=4)) == {0, 1, 2, 3}
    assert drawn(Sampling(1.0, top_k=2)) == {0, 1}
    assert drawn(Sampling(1.0, top_p=0.5)) == {0}
    assert drawn(Sampling(1.0, top_p=0.51)) == {0, 1}
    assert drawn(Sampling(0.0)) == {0}


def test_a_row_draws_the_same_whatever_its_neighbours() -> None:
    logits_BV = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    together = Chooser(Sampling(1.0), [7, 8, 9])(logits_BV)
    alone = [Chooser(Sampling(1.0), [7 + i])(logits_BV[i : i + 1])[0] for i in range(3)]
    assert together == alone
