"""Documents apart: where they begin in a batch; and which targets count in the loss.

Every document ends with EOS, so the next one begins behind it. What a row begins with is the rest
of a document cut by the window's border, and begins anew too. The target that follows an EOS is
another document's first token, which nothing in sight foretells: it does not count in the loss
(as with Megatron's `eod_mask_loss`; OLMo-core lets it count). Nor do tokens that the dataset masks
(see `shards.loss_mask`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shards.reader import TokenArray


class DocumentMask(NamedTuple):
    """The documents of a batch of windows."""

    cu_seqlens: npt.NDArray[np.int32] | None
    """Where each begins in the flattened inputs [n * seq_len], and the end: [num_documents + 1];
    the form that variable-length attention kernels take. None: they are not trained on apart."""
    counted: npt.NDArray[np.bool_]
    """Which targets count in the loss: [n, seq_len]."""

    @property
    def masked_targets(self) -> int:
        """Targets that do not count."""
        return self.counted.size - int(np.count_nonzero(self.counted))


def document_mask(tokens: TokenArray, eos_id: int) -> DocumentMask:
    """Find the documents in windows: [n, seq_len + 1], inputs and the last target."""
    inputs = tokens[:, :-1]
    return DocumentMask(document_borders(inputs, eos_id), inputs != eos_id)


def batch_mask(
    tokens: TokenArray, eos_id: int, apart: bool, counted: npt.NDArray[np.bool_] | None
) -> DocumentMask | None:
    """What is masked in windows [n, seq_len + 1]; None: nothing, and every target counts.

    Args:
        tokens: inputs and the last target.
        eos_id: what documents end with.
        apart: whether documents are trained on apart.
        counted: which targets the dataset does not mask, [n, seq_len]; None: all.
    """
    if not apart:
        return None if counted is None else DocumentMask(None, counted)
    mask = document_mask(tokens, eos_id)
    return mask if counted is None else mask._replace(counted=mask.counted & counted)


def document_borders(inputs: npt.NDArray[np.integer[Any]], eos_id: int) -> npt.NDArray[np.int32]:
    """`DocumentMask.cu_seqlens` of inputs [n, seq_len]."""
    begins = np.zeros(inputs.size + 1, dtype=np.bool_)
    begins[1:] = (inputs == eos_id).reshape(-1)
    begins[:: max(inputs.shape[1], 1)] = True
    return np.flatnonzero(begins).astype(np.int32)
