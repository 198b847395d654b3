"""Features of sequences: the mean hidden states of a frozen model.

Shapes: N sequences, F features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from hyena_dist.inference.embed import embed
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.embeddings.pieces import cut
from hyena_dist.tasks.labelled import Examples

Features = NDArray[np.float32]


def mean_states(
    model: HyenaDNA,
    examples: Examples,
    cache: Path,
    *,
    layers: Sequence[int] | None = (-1,),
    strands: str = "one",
    max_tokens_per_batch: int = 2**16,
) -> Features:
    """Return the mean over the bases of each sequence of the states of layers, side by side, [N, F].

    Sequences longer than the model's l_max are read in pieces that do not see each other.

    Args:
        model: a model in one process.
        examples: N sequences.
        cache: x.zarr, which the states of pieces are written to; a killed job goes on, a finished one is read.
        layers: numbers of layers, as `embed` takes them; None for all.
        strands: `one`, `both` (averaged) or `concat` (side by side).
        max_tokens_per_batch: bound for sequences times positions of a batch of several.

    Raises:
        UserError: what `cut` and `embed` refuse.
    """
    pieces = cut(examples, model.config.l_max)
    embed(
        model,
        pieces.sequences,
        out=cache,
        layers=layers,
        strands=strands,
        max_tokens_per_batch=max_tokens_per_batch,
    )
    states = zarr.open_group(cache, mode="r")["layers"]
    numbers = sorted(int(name) for name in states.array_keys())
    return np.concatenate([pieces.join(states[str(number)][:]) for number in numbers], axis=1)
