"""Every switch of the decoder against a plain restatement in float64, one position at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from configs.model import ModelConfig
from train.flops import count_parameters, flops_per_token
from train.model import Decoder

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "num_layers": 4,
    "d_model": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "ffn_dim": 48,
    "rope_theta": 500.0,
    "max_seq_len": 24,
    "init_std": 0.3,
}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "TinyLM, MHA": (
        dict(vocab_size=32_000, num_layers=18, d_model=1024, num_heads=16, num_kv_heads=16)
        | dict(head_dim=64, ffn_dim=2816, max_seq_len=2048),
        264_016_896,
    ),
    "TinyLM, MLA": (
        dict(vocab_size=32_000, num_layers=18, d_model=1024, num_heads=16, num_kv_heads=16)
        | dict(head_dim=64, ffn_dim=2816, max_seq_len=2048)
        | dict(mla={"latent_dim": 512, "rope_dim": 64}),
        274_642_944,
    ),
    "gelu-d12": (
        dict(vocab_size=32_768, num_layers=12, d_model=768, num_heads=12, num_kv_heads=12)
        | dict(head_dim=64, ffn_dim=3072, max_seq_len=1024, ffn="gelu", norm_weights=False)
        | dict(nanochat={}),
        261_096_338,
    ),
    "Shard": (
        dict(vocab_size=8192, num_layers=12, d_model=512, num_heads=8, num_kv_heads=8)
        | dict(head_dim=64, ffn_dim=2048, max_seq_len=8192, windows="SL", short_window=1024),
        54_538_752,
    ),
    "MTLM1": (
        dict(vocab_size=32_000, num_layers=14, d_model=768, num_heads=12, num_kv_heads=12)
        | dict(head_dim=64, ffn_dim=1280, max_seq_len=1024),
        98_916_096,
    ),
    "MTLM1, grown": (
        dict(vocab_size=32_000, num_layers=28, d_model=768, num_heads=12, num_kv_heads=12)
        | dict(head_dim=64, ffn_dim=1280, max_seq_len=1024),
        173_255_424,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    shape, expected = PUBLISHED[name]
    config = ModelConfig.model_validate(shape)
    with torch.device("meta"):
        model = Decoder(config)
    assert model.num_parameters() == expected
    count = count_parameters(config)
    assert (count.total, count.non_embedding) == (
        expected,
        model.num_parameters(non_embedding=True),
    )


FLOPS_WITH_ATTENTION = {  # published or recomputed totals (6N + attention) / tokens processed
    "TinyLM, MHA": (2048, 4.91e19 / 24_117_248_000),
    "TinyLM, MLA": (2048, 5.61e19 / 24_117_248_000),
    "gelu-d12": (1024, 3.71e18 / 5_221_908_480),
    "Shard": (2048, 3.5e17 / 0.790e9),
    "MTLM1": (1024, 2.54e18 / 3.5e9),
    "MTLM1, grown": (1024, 4.56e18 / 3.5e9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_operations(name: str) -> None:
    switches = {"windows": "SSSL", "short_window": 257} if name == "gelu-d12" else {}
    config = ModelConfig.model_validate(PUBLISHED[name][0] | switches)
    seq_len, expected = FLOPS_WITH_ATTENTION[name]
    assert flops_per_token(config, seq_len) == pytest.approx(expected, rel=0.02)


def decoder(**switches: Any) -> Decoder:
    model = Decoder(ModelConfig.model_validate(SMALL | switches)).double()
    model.initialise(seed=1)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "o_proj" in name or "down_proj" in name:
            # Norms, scalars and zero matrices that a mix-up would not show.
            torch.nn.init.uniform_(parameter, -0.5, 1.5, generator=generator)
    return model.eval()


def row(length: int = 24) -> torch.Tensor:
    return torch.randint(0, 61, (1, length), generator=torch.Generator().manual_seed(2))


def normed(x: Any, weight: Any = 1.0) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def turned(x: Any, position: int, neighbours: bool = False, sign: float = 1.0) -> Any:
    """One head's vector turned by its position: complex multiplication of each pair."""
    half = len(x) // 2
    angles = sign * position * 500.0 ** (-np.arange(half) / half)
    first, second = (x[0::2], x[1::2]) if neighbours else (x[:half], x[half:])
    both = (first + 1j * second) * np.exp(1j * angles)
    if neighbours:
        return np.stack([both.real, both.imag], -1).ravel()
    return np.concatenate([both.real, both.imag])


class Restated:
    """A forward pass from the published description, in numpy, without batches or shortcuts."""

    def __init__(self, model: Decoder) -> None:
        self.config = model.config
        self.w = {name: p.detach().numpy() for name, p in model.named_parameters()}

    def logits(self, tokens: list[int], documents: list[int]) -> Any:
        c, w = self.config, self.w
        x = w["embedding.weight"][tokens]
        beginning = middle = x
        if c.nanochat:
            x = normed(x)
            smeared = x.copy()
            for t in range(1, len(tokens)):
                if documents[t] == documents[t - 1]:
                    gate = sigmoid(x[t, :24] @ w["nanochat.smear_gate.weight"][0])
                    smeared[t] += w["nanochat.smear_scale"] * gate * x[t - 1]
            x = beginning = smeared
        for i in range(c.num_layers):
            if c.nanochat:
                scales = w["nanochat.residual_scales"][i], w["nanochat.beginning_scales"][i]
                x = scales[0] * x + scales[1] * beginning
            x = x + self.attention(i, self.norm(x, f"layers.{i}.attention_norm"), tokens, documents)
            x = x + self.ffn(i, self.norm(x, f"layers.{i}.ffn_norm"))
            if i == c.num_layers // 2:
                middle = x
        if c.nanochat:
            x = x - w["nanochat.backout_scale"] * middle
        logits = self.norm(x, "norm") @ w["embedding.weight"].T
        return c.logit_cap * np.tanh(logits / c.logit_cap) if c.logit_cap else logits

    def norm(self, x: Any, name: str) -> Any:
        return normed(x, self.w.get(f"{name}.weight", 1.0))

    def ffn(self, i: int, x: Any) -> Any:
        gate, up, down = (
            self.w.get(f"layers.{i}.ffn.{n}_proj.weight") for n in ("gate", "up", "down")
        )
        assert up is not None
        assert down is not None
        hidden = x @ up.T
        if gate is None:
            cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
            return (0.5 * hidden * (1 + np.tanh(cubic))) @ down.T
        gated = x @ gate.T
        return (gated * sigmoid(gated) * hidden) @ down.T

    def attention(self, i: int, x: Any, tokens: list[int], documents: list[int]) -> Any:
        c, out = self.config, np.zeros((len(x), self.config.num_heads * self.config.head_dim))
        queries, keys, values = self.latent(i, x) if c.mla else self.grouped(i, x, tokens)
        window = c.window(i) or len(x)
        for t in range(len(x)):
            seen = [j for j in range(max(0, t - window + 1), t + 1) if documents[j] == documents[t]]
            for n in range(c.num_heads):
                scores = np.array([queries[t][n] @ keys[j][n] for j in seen])
                weights = np.exp(scores / math.sqrt(len(queries[t][n])))
                mixed = sum(p * values[j][n] for p, j in zip(weights, seen, strict=True))
                out[t, n * c.head_dim : (n + 1) * c.head_dim] = mixed / weights.sum()
        return out @ self.w[f"layers.{i}.attention.o_proj.weight"].T

    def grouped(self, i: int, x: Any, tokens: list[int]) -> Any:
        c, at = self.config, f"layers.{i}.attention."
        q, k, v = (x @ self.w[f"{at}{n}_proj.weight"].T for n in "qkv")
        if f"{at}value_gate.weight" in self.w:
            gate = 3 * sigmoid(x[:, :12] @ self.w[f"{at}value_gate.weight"].T)
            v = v + np.repeat(gate, c.head_dim, 1) * self.w[f"{at}value_embedding.weight"][tokens]
        sign, near = (-1.0 if c.rope_backwards else 1.0), c.rope_pairs == "neighbours"

        def head(y: Any, t: int, n: int) -> Any:
            found = turned(y[t].reshape(-1, c.head_dim)[n], t, near, sign)
            return c.qk_norm_gain * normed(found) if c.qk_norm_gain else found

        group = c.num_heads // c.num_kv_heads
        heads, at_all = range(c.num_heads), range(len(x))
        return (
            [[head(q, t, n) for n in heads] for t in at_all],
            [[head(k, t, n // group) for n in heads] for t in at_all],
            [[v[t].reshape(-1, c.head_dim)[n // group] for n in heads] for t in at_all],
        )

    def latent(self, i: int, x: Any) -> Any:
        c, at = self.config, f"layers.{i}.attention."
        assert c.mla
        width, heads, at_all = c.head_dim, range(c.num_heads), range(len(x))
        q = (x @ self.w[f"{at}q_proj.weight"].T).reshape(len(x), c.num_heads, -1)
        latent = self.norm(x @ self.w[f"{at}kv_down_proj.weight"].T, f"{at}kv_norm")
        shared = x @ self.w[f"{at}k_rope_proj.weight"].T
        k, v = (
            (latent @ self.w[f"{at}{n}_up_proj.weight"].T).reshape(len(x), c.num_heads, width)
            for n in "kv"
        )
        queries = [
            [np.concatenate([q[t, n, :width], turned(q[t, n, width:], t)]) for n in heads]
            for t in at_all
        ]
        keys = [[np.concatenate([k[t, n], turned(shared[t], t)]) for n in heads] for t in at_all]
        return queries, keys, v


SWITCHES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "neighbouring pairs": {"rope_pairs": "neighbours"},
    "windows": {"windows": "SSL", "short_window": 5},
    "gelu": {"ffn": "gelu"},
    "capped, queries normed": {"logit_cap": 5.0, "qk_norm_gain": 1.2},
    "latent": {"num_kv_heads": 4, "mla": {"latent_dim": 12, "rope_dim": 6}},
    "nanochat": {
        "nanochat": {},
        "norm_weights": False,
        "ffn": "gelu",
        "rope_backwards": True,
        "qk_norm_gain": 1.2,
        "logit_cap": 15.0,
        "windows": "SSSL",
        "short_window": 7,
    },
}


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("begins", [[0], [0, 3, 4, 17]], ids=["one document", "documents apart"])
def test_equal_to_the_restatement(name: str, begins: list[int]) -> None:
    model, tokens = decoder(**SWITCHES[name]), row()
    cu_seqlens = torch.tensor([*begins, 24], dtype=torch.int32)
    documents = np.repeat(np.arange(len(begins)), cu_seqlens.diff().numpy()).tolist()
    with torch.no_grad():
        found = model(tokens, cu_seqlens if len(begins) > 1 else None)[0].numpy()
    expected = Restated(model).logits(tokens[0].tolist(), documents)
    assert expected.std() > 0.5
    # Norms and rotations are computed in float32 inside.
    np.testing.assert_allclose(found, expected, atol=2e-4 * abs(expected).max())


@pytest.mark.parametrize("name", SWITCHES)
def test_parameters_by_formula(name: str) -> None:
    model = decoder(**SWITCHES[name])
    count = count_parameters(model.config)
    assert count.total == model.num_parameters()
    assert count.non_embedding == model.num_parameters(non_embedding=True)


@pytest.mark.parametrize("name", SWITCHES)
def test_no_position_sees_the_future(name: str) -> None:
    model, tokens = decoder(**SWITCHES[name]), row()
    changed = tokens.clone()
    changed[0, 15:] = (changed[0, 15:] + 7) % 61
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :15], after[0, :15])
    assert not torch.allclose(before[0, 15:], after[0, 15:])


def test_dropout_only_while_training() -> None:
    model, tokens = decoder(dropout=0.5), row()
    with torch.no_grad():
        assert torch.equal(model(tokens), model(tokens))
        model.train()
        assert not torch.allclose(model(tokens), model(tokens))


def test_nanochat_begins_with_the_loss_of_its_initialisation() -> None:
    """Tied tables of N(0, 0.8) and blocks that add nothing: 23.2 instead of ln 32768 = 10.4.

    The stream stays a multiple of the token's own normed entry, so its own logit is 15 tanh(41)
    and every other one 15 tanh(z / 15) with z from N(0, 0.8 sqrt(768)), the target's among them.
    A mean over 256 tokens has a standard error of 0.7, so that 24.4, too, has been seen.
    """
    z = np.random.default_rng(0).normal(0, 0.8 * math.sqrt(768), 1_000_000)
    logits = 15 * np.tanh(z / 15)
    expected = math.log(32_768 * np.exp(logits).mean() + math.exp(15))
    assert expected == pytest.approx(23.19, abs=0.01)

    shape, _ = PUBLISHED["gelu-d12"]
    switches: dict[str, Any] = {
        "qk_norm_gain": 1.2,
        "logit_cap": 15,
        "windows": "SSSL",
        "short_window": 257,
    }
    # At the beginning the blocks add nothing, whatever their number.
    model = Decoder(ModelConfig.model_validate({**shape, **switches, "num_layers": 2}))
    model.initialise(seed=0)
    tokens = torch.randint(0, 32_768, (4, 513), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(found.flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(expected, abs=3 * logits.std() / math.sqrt(2048))
    assert model.embedding.weight.bfloat16().float().equal(model.embedding.weight)


def test_switches_that_contradict_each_other_are_refused() -> None:
    contradictions: list[tuple[dict[str, Any], str]] = [
        ({"windows": "SL"}, "short_window"),
        ({"short_window": 4}, "short_window"),
        ({"mla": {"latent_dim": 4, "rope_dim": 2}}, "num_kv_heads must be num_heads"),
        ({"num_kv_heads": 4, "mla": {"latent_dim": 4, "rope_dim": 3}}, "mla.rope_dim = 3 is odd"),
    ]
    for values, reason in contradictions:
        with pytest.raises(ValueError, match=reason):
            ModelConfig.model_validate(SMALL | values)
