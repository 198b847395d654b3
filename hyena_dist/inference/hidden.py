"""Hidden states of any layers, reduced to rows as they appear, so that no two layers are in memory at once.

Shapes: B sequences, S positions of the longest of them, D d_model, n bases of a bin, R rows of all sequences together.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from hyena_dist.data.batches import is_base
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA

POOLS = ("mean", "std", "max", "last", "first")
OVER_BASES = ("mean", "std", "max")
"""Pools that need an A, C, G or T."""
BLOCK = 2**12
"""Positions that are reduced at a time: few enough that caches hold them, which is ten times as fast as 2**16."""


class Rows(NamedTuple):
    """A choice of the vectors that describe a sequence: one of the whole, or one for each bin."""

    pool: str = "mean"
    """Without bins: `mean`, standard deviation (`std`) or `max` over the positions that hold A, C, G or T, or the state
    at the `last` or `first` position. The model is causal: the last position has seen the whole sequence, and the
    first has seen one base."""
    bin_size: int | None = None
    """Bases of a bin, whose row is the mean over its positions, N included; the last bin of a sequence may be shorter.
    1 gives a row for each base."""

    def per_sequence(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many rows sequences of these lengths have, int64 of the same shape."""
        return np.ones_like(lengths) if self.bin_size is None else -(-lengths // self.bin_size)

    def offsets(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of each of N sequences and, at the end, the number of rows; int64 [N + 1]."""
        return np.concatenate(([0], np.cumsum(self.per_sequence(lengths))))

    def check(self) -> None:
        """Refuse what is not built.

        Raises:
            UserError: another pool, or bins of no base.
        """
        if self.pool not in POOLS:
            raise UserError(f"pool {self.pool!r} is not built; choose of {', '.join(POOLS)}, or give a size of bins")
        if self.bin_size is not None and self.bin_size < 1:
            raise UserError(f"bins of {self.bin_size} bases hold nothing; choose 1 or more")


def layer_numbers(layers: Sequence[int], n_layer: int) -> tuple[int, ...]:
    """Return the numbers of layers in ascending order, each once; negative ones count from the end.

    0 is the embedding, i is what block i returns, and n_layer (or -1) is the last block after the final norm, as in
    `output_hidden_states` of Hugging Face.

    Raises:
        UserError: none, or one that the model does not have.
    """
    if not layers:
        raise UserError("no layer is asked for; name some, as -1 for the last")
    for layer in layers:
        if not -n_layer - 1 <= layer <= n_layer:
            raise UserError(
                f"layer {layer} is none of the {n_layer} layers; choose 0 (the embedding) to {n_layer} (after the "
                f"final norm), or -1 to {-n_layer - 1}, counted from the end"
            )
    return tuple(sorted({layer % (n_layer + 1) for layer in layers}))


@torch.inference_mode()
def reduced_states(
    model: HyenaDNA, tokens: Tensor, lengths: Tensor, layers: Sequence[int], rows: Rows, turned: bool = False
) -> Iterator[tuple[int, Tensor]]:
    """Yield the rows of each layer: the next rows as soon as the layer is there, and no layer above the highest.

    Args:
        model: in evaluation mode and in one process.
        tokens: uint8 [B, S] on the model's device, padded to the right.
        lengths: positions of each sequence, int64 [B] on the same device.
        layers: numbers from 0 on in ascending order, from `layer_numbers`.
        rows: what a layer is reduced to.
        turned: the sequences are reverse complements, and bins are those of the forward strand, in its order. Pools
            are taken as the model read: its last position is the forward strand's first.

    Yields:
        A layer and its next rows, fp32 [r, D] (fp64 of an fp64 model), sequence after sequence: R in all.
    """
    for layer, x in _residual_streams(model, tokens, layers[-1]):
        if layer in layers:
            norm = model.backbone.ln_f if layer == model.config.n_layer else torch.nn.Identity()
            reduce = _pooled if rows.bin_size is None else _binned
            states, size = x.transpose(0, 1), max(1, BLOCK // len(x))
            for group in (slice(first, first + size) for first in range(0, len(tokens), size)):
                for found in reduce(states[group], norm, tokens[group], lengths[group], rows, turned):
                    yield layer, found


def _residual_streams(model: HyenaDNA, tokens: Tensor, last: int) -> Iterator[tuple[int, Tensor]]:
    """Yield 0 and the embedding, then i and the residual stream after block i up to `last`, [S, B, D] each."""
    backbone = model.backbone
    x = backbone.embeddings.word_embeddings(tokens)
    yield 0, x
    for number, block in enumerate(backbone.layers[:last], 1):
        x = block(x)
        yield number, x


def _blocks(x: Tensor, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Yield ranges of positions: all at once for several sequences, which are short, else about BLOCK each."""
    batch, positions, _ = x.shape
    size = positions if batch > 1 else multiple * max(1, BLOCK // multiple)
    for start in range(0, positions, size):
        yield start, min(start + size, positions)


def _pooled(
    x: Tensor, norm: torch.nn.Module, tokens: Tensor, lengths: Tensor, rows: Rows, turned: bool
) -> Iterator[Tensor]:
    """Yield one row for each sequence, [B, D], of states [B, S, D]."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if rows.pool in ("first", "last"):
        at = lengths - 1 if rows.pool == "last" else torch.zeros_like(lengths)
        yield norm(x[torch.arange(len(x), device=x.device), at]).to(dtype)
        return
    counted = is_base(tokens)[..., None]
    if rows.pool == "max":
        highest = x.new_full((len(x), x.shape[2]), -torch.inf, dtype=dtype)
        for start, end in _blocks(x):
            inside = norm(x[:, start:end]).to(dtype).masked_fill(~counted[:, start:end], -torch.inf)
            highest = torch.maximum(highest, inside.amax(1))
        yield highest
    else:
        total = x.new_zeros(len(x), x.shape[2], dtype=torch.float64)
        for start, end in _blocks(x):
            total += (norm(x[:, start:end]).to(dtype) * counted[:, start:end]).sum(1)
        mean = total / counted.sum(1)
        if rows.pool == "mean":
            yield mean.to(dtype)
            return
        squares = torch.zeros_like(total)
        for start, end in _blocks(x):
            away = norm(x[:, start:end]).to(dtype) - mean[:, None].to(dtype)
            squares += (away.square() * counted[:, start:end]).sum(1)
        yield (squares / counted.sum(1)).sqrt().to(dtype)


def _binned(
    x: Tensor, norm: torch.nn.Module, tokens: Tensor, lengths: Tensor, rows: Rows, turned: bool
) -> Iterator[Tensor]:
    """Yield rows of bins of states [B, S, D], in the order of the forward strand."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    n = rows.bin_size or 1
    for start, end in _blocks(x, n):
        at = torch.arange(start, end, device=x.device)
        inside = at < lengths[:, None]
        found = x[:, start:end]
        if turned:
            mirrored = (lengths[:, None] - 1 - at).clamp(min=0)
            found = x[torch.arange(len(x), device=x.device)[:, None], mirrored]
        found = norm(found).to(dtype)
        if n == 1:
            yield found[inside]
        else:
            short = -len(at) % n
            summed = pad(found * inside[..., None], (0, 0, 0, short)).unflatten(1, (-1, n)).sum(2)
            counts = pad(inside, (0, short)).unflatten(1, (-1, n)).sum(2)
            yield summed[counts > 0] / counts[counts > 0][:, None]
