"""Parameters, operations and memory of a model by formula: no torch, so planning is instant."""

from typing import NamedTuple

from configs.model import ModelConfig
from configs.train import EngineConfig

PEAK_FLOPS = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "L40S": 362e12,
    "L20": 119.5e12,
}
"""Dense bfloat16 peak by the name that the driver reports."""

_GIB = 2**30


class ParameterCount(NamedTuple):
    """Parameters of a model, a tied matrix counted once."""

    total: int
    non_embedding: int
    """Without embedding and output head."""
    matmul: int
    """Those in matrix products of every token: blocks and output head, no norms or look-ups."""


def count_parameters(model: ModelConfig) -> ParameterCount:
    """Count what `train.model.Decoder` has."""
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    block = model.d_model * (2 * query + 2 * key + 3 * model.ffn_dim)
    norms = model.d_model * (2 * model.num_layers + 1)
    table = model.vocab_size * model.d_model
    blocks = model.num_layers * block
    tables = table if model.tie_embeddings else 2 * table
    return ParameterCount(blocks + norms + tables, blocks + norms, blocks + table)


def flops_per_token(model: ModelConfig, seq_len: int, *, attention: bool = True) -> int:
    """Operations of forward and backward per token.

    Six per parameter in a matrix product, and with `attention` twelve per layer, head channel and
    position: scores and mix over the whole row, the causal half not deducted (PaLM's convention).
    """
    flops = 6 * count_parameters(model).matmul
    if attention:
        flops += 12 * model.num_layers * model.num_heads * model.head_dim * seq_len
    return flops


def mfu(tokens_per_s: float, model: ModelConfig, seq_len: int, device: str) -> float | None:
    """Share of a device's peak that is reached; None where the device's peak is not known."""
    peak = peak_flops(device)
    return None if peak is None else tokens_per_s * flops_per_token(model, seq_len) / peak


def peak_flops(device: str) -> float | None:
    """Dense bfloat16 peak of a device by the driver's name for it."""
    words = device.replace("-", " ").split()
    return next((peak for name, peak in PEAK_FLOPS.items() if name in words), None)


def memory_gib(
    model: ModelConfig, engine: EngineConfig, micro_batch: int, seq_len: int, world_size: int
) -> dict[str, float]:
    """Memory of one rank by component, GiB; the activations are an estimate.

    Weights, gradients and AdamW's two moments as float32, or with precision bf16 as bfloat16
    weights with a float32 master; each divided among the ranks where the ZeRO stage shares it.
    """
    count = count_parameters(model).total
    pure_bf16 = engine.precision == "bf16"
    bytes_each = {
        "weights": 2 if pure_bf16 else 4,
        "gradients": 4,
        "optimizer": 12 if pure_bf16 else 8,
    }
    shared_from = {"optimizer": 1, "gradients": 2, "weights": 3}
    parts = {
        name: size * count / (world_size if engine.zero_stage >= shared_from[name] else 1)
        for name, size in bytes_each.items()
    }
    parts["activations (estimate)"] = _activation_bytes(model, engine, micro_batch, seq_len)
    return {name: value / _GIB for name, value in parts.items()}


def _activation_bytes(
    model: ModelConfig, engine: EngineConfig, micro_batch: int, seq_len: int
) -> float:
    """What backward needs: per block the inputs of each product and of each non-linearity."""
    low = 4 if engine.precision == "fp32" else 2
    heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    block = 4 * 4 * model.d_model + low * (2 * model.d_model + heads + 4 * model.ffn_dim)
    logits = model.vocab_size * (low + 4 + 4)
    return float(micro_batch * seq_len * (model.num_layers * block + logits))
