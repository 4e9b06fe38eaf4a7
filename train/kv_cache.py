"""Keys and values of the tokens that a model has read, kept so that it need not read them again."""

import torch
from torch import Tensor


class KVCache:
    """What every layer of a model keeps of a batch of rows; axes as in `train.model`.

    Keys are kept after rotation and normalisation, values with their value tables added, both as
    attention takes them (of latent attention the expanded ones), and all positions of a layer
    with a window: what differs between architectures is over when they come here.

    Args:
        capacity: positions there is room for.
        padding_B: int64, positions at the beginning of each row that are no text. Rows of unequal
            length end together that way. None where there are none.
    """

    def __init__(self, capacity: int, padding_B: Tensor | None = None) -> None:
        self.capacity, self.padding_B = capacity, padding_B
        self.num_positions = 0
        """Positions that all layers have read."""
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._last_B1D: Tensor | None = None

    def extend(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values of new positions; returns those of all: [B, K, S, H]."""
        start, stop = self.num_positions, self.num_positions + k_BKTH.shape[2]
        if layer not in self._layers:
            self._layers[layer] = (self._room(k_BKTH), self._room(v_BKTH))
        for kept, new in zip(self._layers[layer], (k_BKTH, v_BKTH), strict=True):
            kept[:, :, start:stop] = new
        keys, values = self._layers[layer]
        return keys[:, :, :stop], values[:, :, :stop]

    def _room(self, like: Tensor) -> Tensor:
        rows, heads, _, width = like.shape
        return torch.empty(rows, heads, self.capacity, width, dtype=like.dtype, device=like.device)

    def last_embedding(self, x_BTD: Tensor) -> Tensor | None:
        """The embedding before these, [B, 1, D]; the last of these is kept for the next call."""
        before, self._last_B1D = self._last_B1D, x_BTD[:, -1:]
        return before

    def advance(self, num_tokens: int) -> None:
        """Every layer has read so many more positions."""
        self.num_positions += num_tokens
