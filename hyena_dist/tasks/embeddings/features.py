"""Features of sequences: hidden states of a frozen model, their mean and spread.

Shapes: N sequences, F features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.inference.embed import embed
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.embeddings.pieces import Pieces, cut
from hyena_dist.tasks.labelled import Examples

Features = NDArray[np.float32]


def pooled_states(
    model: HyenaDNA,
    examples: Examples,
    folder: Path,
    *,
    layers: Sequence[int] | None = (-1,),
    pools: Sequence[str] = ("mean",),
    strands: str = "one",
    max_tokens_per_batch: int = 2**16,
) -> Features:
    """Return the mean, and perhaps the spread, over the bases of each sequence of the states of layers, [N, F].

    Sequences longer than the model's l_max are read in pieces that do not see each other.

    Args:
        model: a model in one process.
        examples: N sequences.
        folder: an existing one, where embeddings-mean.zarr has the states of pieces; a killed job goes on, and a
            finished one is read.
        layers: numbers of layers, as `embed` takes them; None for all.
        pools: `mean`, or mean and `std`, which adds the standard deviation over the bases.
        strands: `one`, `both` (averaged) or `concat` (side by side).
        max_tokens_per_batch: bound for sequences times positions of a batch of several.

    Raises:
        UserError: what `cut` and `embed` refuse.
    """
    pieces = cut(examples, model.config.l_max)
    means = _embedded(model, pieces, folder, "mean", layers, strands, max_tokens_per_batch)
    found = [pieces.mean(means)]
    if "std" in pools:
        stds = _embedded(model, pieces, folder, "std", layers, strands, max_tokens_per_batch)
        found.append(pieces.std(means, stds))
    return np.concatenate(found, axis=1).astype(np.float32)


def check_pools(pools: Sequence[str]) -> None:
    """Refuse pools that cannot be joined over pieces.

    Raises:
        UserError: another choice than mean, or mean and std.
    """
    if sorted(pools) not in (["mean"], ["mean", "std"]):
        raise UserError(f"pools {','.join(pools)} are not built here; give mean, or mean,std")


def _embedded(
    model: HyenaDNA,
    pieces: Pieces,
    folder: Path,
    pool: str,
    layers: Sequence[int] | None,
    strands: str,
    max_tokens: int,
) -> Features:
    """Return the states of pieces, layers side by side, [P, F], computed or as they are in the folder."""
    out = folder / f"embeddings-{pool}.zarr"
    embed(
        model,
        pieces.sequences,
        out=out,
        layers=layers,
        pool=pool,
        strands=strands,
        max_tokens_per_batch=max_tokens,
    )
    states = zarr.open_group(out, mode="r")["layers"]
    return np.concatenate([states[name][:] for name in sorted(states.array_keys(), key=int)], axis=1)
