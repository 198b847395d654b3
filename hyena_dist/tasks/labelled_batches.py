"""The batches of a fine-tuning run: what a step holds is a function of (seed, step), whatever came before.

Shapes: B batch, S positions of this context rank, C classes or targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class LabelledBatch(NamedTuple):
    """One micro-batch of labelled sequences, on the CPU."""

    tokens: Tensor
    """This context rank's chunk of the sequences, padded to the right, uint8 [B, S]."""
    lengths: Tensor
    """Positions of each whole sequence, of all context ranks, int64 [B]."""
    labels: Tensor
    """As in Examples.labels, of bases this rank's chunk: int64 [B], float32 [B, C] or int64 [B, S]."""
    dropout_seeds: Sequence[int]
    """The seeds of dropout, [B]."""
