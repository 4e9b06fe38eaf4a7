"""The decoder: equal to transformers' Llama, causal, counted right, initialised reproducibly."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from configs.model import ModelConfig
from train.model import Decoder

SHAPES = {
    "grouped, tied": dict(num_heads=6, num_kv_heads=2, head_dim=8, tie_embeddings=True),
    "one kv head per head, untied": dict(
        num_heads=4, num_kv_heads=4, head_dim=16, tie_embeddings=False
    ),
}


def model_config(**changes: object) -> ModelConfig:
    values: dict[str, object] = dict(
        vocab_size=97,
        num_layers=3,
        d_model=48,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        ffn_dim=80,
        rope_theta=5_000.0,
        norm_eps=1e-5,
        max_seq_len=32,
    )
    return ModelConfig.model_validate(values | changes)


def as_llama(model: Decoder) -> LlamaForCausalLM:
    """The same weights in transformers' own implementation."""
    config = model.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.ffn_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.norm_eps,
            max_position_embeddings=config.max_seq_len,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_embeddings,
        )
    )
    renames = {
        "embedding.": "model.embed_tokens.",
        "layers.": "model.layers.",
        "norm.": "model.norm.",
        "head.": "lm_head.",
    }
    inner = {
        ".attention_norm.": ".input_layernorm.",
        ".attention.": ".self_attn.",
        ".ffn_norm.": ".post_attention_layernorm.",
        ".ffn.": ".mlp.",
    }
    tensors = {}
    for name, tensor in model.state_dict().items():
        start = next(old for old in renames if name.startswith(old))
        name = renames[start] + name.removeprefix(start)
        for old, new in inner.items():
            name = name.replace(old, new)
        tensors[name] = tensor
    missing, unexpected = llama.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config.tie_embeddings else [])
    llama.tie_weights()
    return llama.eval()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_equal_llama(shape: dict[str, object]) -> None:
    model = Decoder(model_config(**shape, init_std=0.3))
    model.initialise(seed=1)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):  # norms that are not all ones, or a mix-up would not show
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    tokens = torch.randint(0, 97, (3, 32), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours, theirs = model(tokens), as_llama(model)(tokens).logits
    assert ours.std() > 1
    # float32 sums in another order: relative to the largest logit
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6 * float(theirs.abs().max()))


def test_logits_do_not_see_the_future() -> None:
    model = Decoder(model_config(init_std=0.3))
    model.initialise(seed=1)
    tokens = torch.arange(32).unsqueeze(0)
    changed = tokens.clone()
    changed[0, 20:] += 40
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :20], after[0, :20])
    assert not torch.allclose(before[0, 20:], after[0, 20:])


def test_parameter_counts_by_hand() -> None:
    tied = Decoder(model_config())
    per_layer = 2 * 48 + 2 * 48 * 48 + 2 * 48 * 16 + 3 * 48 * 80
    assert tied.num_parameters() == 97 * 48 + 3 * per_layer + 48
    assert tied.num_parameters(non_embedding=True) == 3 * per_layer + 48
    untied = Decoder(model_config(tie_embeddings=False))
    assert untied.num_parameters() == tied.num_parameters() + 97 * 48
    assert untied.num_parameters(non_embedding=True) == tied.num_parameters(non_embedding=True)


def test_published_size_of_l20_edu_135m() -> None:
    config = ModelConfig(
        vocab_size=49_152,
        num_layers=30,
        d_model=576,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        ffn_dim=1536,
        max_seq_len=2048,
    )
    with torch.device("meta"):
        assert Decoder(config).num_parameters() == 134_515_008


def test_initialisation_is_a_function_of_the_seed() -> None:
    first, second, other = (Decoder(model_config()) for _ in range(3))
    first.initialise(seed=5)
    second.initialise(seed=5)
    other.initialise(seed=6)
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_first_loss_is_that_of_small_random_logits() -> None:
    """With N(0, 0.02) and RMSNorm the expected first loss is ln V + 0.0002 d, about."""
    model = Decoder(model_config(vocab_size=4096, d_model=256, max_seq_len=64))
    model.initialise(seed=0)
    tokens = torch.randint(0, 4096, (8, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(4096) + 0.0002 * 256, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_heads=6, num_kv_heads=4), "no multiple of num_kv_heads"),
        (dict(head_dim=7), "head_dim = 7 is odd"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config(**changes)
