"""Documents apart: borders and loss mask by hand; the model against documents run one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.model import ModelConfig
from shards.masking import document_mask
from train.model import Decoder

EOS = 9


def test_borders_and_targets_by_hand() -> None:
    tokens = np.array([[1, 2, 9, 3, 4], [9, 5, 6, 9, 7], [1, 1, 1, 1, 9]], dtype=np.uint16)
    mask = document_mask(tokens, EOS)
    assert mask.cu_seqlens is not None
    # Inputs: 1 2 9 | 3 || 9 | 5 6 9 || 1 1 1 1; the last row's EOS is a target only.
    assert mask.cu_seqlens.tolist() == [0, 3, 4, 5, 8, 12]
    assert mask.cu_seqlens.dtype == np.int32
    assert mask.counted.tolist() == [
        [True, True, False, True],
        [False, True, True, False],
        [True] * 4,
    ]
    assert mask.masked_targets == 3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_borders_equal_a_walk_over_the_tokens(rows: int, seq_len: int, seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 3, (rows, seq_len + 1), dtype=np.uint16)
    mask = document_mask(tokens, eos_id=0)
    begins, masked = [], 0
    for row in range(rows):
        for place in range(seq_len):
            if place == 0 or tokens[row, place - 1] == 0:
                begins.append(row * seq_len + place)
            masked += tokens[row, place] == 0
    assert mask.cu_seqlens is not None
    assert mask.cu_seqlens.tolist() == [*begins, rows * seq_len]
    assert mask.masked_targets == masked


@pytest.mark.parametrize("num_kv_heads", [2, 4])
def test_masked_logits_are_those_of_each_document_alone(num_kv_heads: int) -> None:
    config = ModelConfig(
        vocab_size=10,
        num_layers=2,
        d_model=32,
        num_heads=4,
        num_kv_heads=num_kv_heads,
        head_dim=8,
        ffn_dim=48,
        max_seq_len=12,
    )
    model = Decoder(config)
    model.initialise(seed=1)
    model.double()
    tokens = np.array([[1, 2, 9, 3, 4, 5, 9, 9, 6, 7, 8, 1, 2], [1] * 5 + [9] + [2] * 7])
    mask = document_mask(tokens.astype(np.uint16), EOS)
    assert mask.cu_seqlens is not None
    inputs = torch.from_numpy(tokens[:, :-1])
    together = model(inputs, torch.from_numpy(mask.cu_seqlens)).flatten(0, 1)
    flat = inputs.flatten()
    for start, stop in zip(mask.cu_seqlens, mask.cu_seqlens[1:], strict=False):
        alone = model(flat[None, start:stop])[0]
        torch.testing.assert_close(together[start:stop], alone, rtol=1e-4, atol=1e-6)
    whole_rows = model(inputs).flatten(0, 1)
    assert not torch.allclose(together, whole_rows, rtol=1e-4, atol=1e-6)
    no_borders = torch.tensor([0, 12, 24], dtype=torch.int32)
    torch.testing.assert_close(model(inputs, no_borders).flatten(0, 1), whole_rows)
