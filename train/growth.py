"""What a segment's model takes over from the one before: weights and moments, block by block.

Growing by copied blocks follows Gong et al. 2019 ("Efficient training of BERT by progressively
stacking"); which old block a new one begins as is `configs.train.ChangeConfig.layer_map`.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

_LAYERS = "layers."


def source_layer(
    layer: int, old_layers: int, new_layers: int, layer_map: Literal["stack", "interleave"]
) -> int:
    """The old block that a block of the grown model begins as."""
    if layer_map == "stack":
        return layer % old_layers
    return layer // (new_layers // old_layers)


def grown(
    tensors: Mapping[str, Tensor],
    old_layers: int,
    new_layers: int,
    layer_map: Literal["stack", "interleave"],
) -> dict[str, Tensor]:
    """The tensors of the grown model by name; what is outside the blocks stays.

    Args:
        tensors: by names that begin with the parameter's: weights or moments.
        old_layers: blocks they are of.
        new_layers: blocks wanted, a multiple.
        layer_map: which old block a new one begins as.
    """
    found = {name: value for name, value in tensors.items() if not name.startswith(_LAYERS)}
    for layer in range(new_layers):
        old = f"{_LAYERS}{source_layer(layer, old_layers, new_layers, layer_map)}."
        new = f"{_LAYERS}{layer}."
        copied = {n.replace(old, new, 1): t for n, t in tensors.items() if n.startswith(old)}
        found |= {name: value.clone() for name, value in copied.items()}
    return found
