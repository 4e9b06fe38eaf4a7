"""Parameters, operations and memory of a model by formula: no torch, so planning is instant."""

from typing import NamedTuple

from configs.model import ModelConfig
from configs.train import TrainConfig

PEAK_FLOPS = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "L40S": 362e12,
    "L20": 119.5e12,
}
"""Dense bfloat16 peak by the name that the driver reports."""

LOSS_PIECE = 2048
"""Positions whose logits exist at once (`train.loss`)."""
_DEEPSPEED_BUCKET = 500_000_000
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
    products = model.num_layers * (
        _attention(model) + _ffn_matrices(model) * model.d_model * model.ffn_dim
    )
    vectors = _norms(model)
    tables = model.vocab_size * model.d_model * (1 if model.tie_embeddings else 2)
    if model.nanochat:
        with_table = sum(map(model.has_value_table, range(model.num_layers)))
        key_width = model.num_kv_heads * model.head_dim
        products += model.nanochat.smear_channels
        products += with_table * model.nanochat.gate_channels * model.num_kv_heads
        vectors += 2 * model.num_layers + 2
        tables += with_table * model.vocab_size * key_width
    head = model.vocab_size * model.d_model
    return ParameterCount(products + vectors + tables, products + vectors, products + head)


def _attention(model: ModelConfig) -> int:
    """Parameters in the matrix products of one attention layer."""
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    if model.mla is None:
        return model.d_model * (2 * query + 2 * key)
    latent, rope = model.mla.latent_dim, model.mla.rope_dim
    from_stream = query + model.num_heads * rope + latent + rope + query  # the last: output
    return model.d_model * from_stream + latent * 2 * query


def _ffn_matrices(model: ModelConfig) -> int:
    return 3 if model.ffn == "swiglu" else 2


def _norms(model: ModelConfig) -> int:
    if not model.norm_weights:
        return 0
    latent = model.num_layers * model.mla.latent_dim if model.mla else 0
    return model.d_model * (2 * model.num_layers + 1) + latent


def flops_per_token(model: ModelConfig, seq_len: int, *, attention: bool = True) -> int:
    """Operations of forward and backward per token.

    Six per parameter in a matrix product, and with `attention` six per layer, position in reach and
    channel of a head's key and value, the causal half not deducted (PaLM's convention, Chowdhery
    et al. 2022, appendix B).
    """
    flops = 6 * count_parameters(model).matmul
    if attention:
        rope = model.mla.rope_dim if model.mla else 0
        channels = model.num_heads * (2 * model.head_dim + rope)
        reach = sum(
            min(model.window(layer) or seq_len, seq_len) for layer in range(model.num_layers)
        )
        flops += 6 * channels * reach
    return flops


def mfu(tokens_per_s: float, model: ModelConfig, seq_len: int, device: str) -> float | None:
    """Share of a device's peak that is reached; None where the device's peak is not known."""
    peak = peak_flops(device)
    return None if peak is None else tokens_per_s * flops_per_token(model, seq_len) / peak


def peak_flops(device: str) -> float | None:
    """Dense bfloat16 peak of a device by the driver's name for it."""
    words = device.replace("-", " ").split()
    return next((peak for name, peak in PEAK_FLOPS.items() if name in words), None)


def bucket_elements(model: ModelConfig) -> int:
    """Gradients that DeepSpeed gathers in a buffer of its own: its default, or all there are."""
    return min(_DEEPSPEED_BUCKET, count_parameters(model).total)


def memory_gib(config: TrainConfig, seq_len: int, world_size: int) -> dict[str, float]:
    """Memory of one rank by component, GiB; the activations are an estimate.

    Weights, gradients and the optimizer's moments as float32 (two for AdamW, one for what Muon
    updates), with precision bf16 as bfloat16 weights with a float32 master, with pure_bf16 as
    bfloat16 all of them; each divided among the ranks where the ZeRO stage shares it.

    Args:
        config: the run.
        seq_len: of its longest windows.
        world_size: ranks.
    """
    count, engine = count_parameters(config.model), config.engine
    with_master = engine.precision == "bf16"
    blocks = count.matmul - config.model.vocab_size * config.model.d_model
    by_muon = blocks if config.optimizer.muon else 0
    sizes = {
        "weights": (2 if with_master else 4) * count.total,
        "gradients": 4 * count.total,
        "optimizer": (12 if with_master else 8) * count.total - 4 * by_muon,
    }
    if engine.precision == "pure_bf16":
        sizes = {name: size // 2 for name, size in sizes.items()}
    shared_from = {"optimizer": 1, "gradients": 2, "weights": 3}
    parts = {
        name: size / (world_size if engine.zero_stage >= shared_from[name] else 1)
        for name, size in sizes.items()
    }
    if engine.zero_stage and not config.shared_whole:
        parts["DeepSpeed's buffer"] = 4 * bucket_elements(config.model)
    parts["activations (estimate)"] = _activation_bytes(config, seq_len)
    return {name: value / _GIB for name, value in parts.items()}


def _activation_bytes(config: TrainConfig, seq_len: int) -> float:
    """What backward needs: per block the inputs of each product and of each non-linearity.

    Logits exist for a piece of the positions at a time, with two gradients of the same size; the
    head's own gradient is kept from there on.
    """
    model, positions = config.model, config.micro_batch * seq_len
    low = 4 if config.engine.precision == "fp32" else 2
    rope = model.mla.rope_dim if model.mla else 0
    heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    heads += 2 * model.num_heads * rope
    hidden = (2 * _ffn_matrices(model) - 2) * model.ffn_dim
    block = 4 * 4 * model.d_model + low * (2 * model.d_model + heads + hidden)
    logits = min(positions, LOSS_PIECE) * model.vocab_size * (low + 4 + 4)
    head_gradient = 4 * model.vocab_size * model.d_model
    return float(positions * model.num_layers * block + logits + head_gradient)
