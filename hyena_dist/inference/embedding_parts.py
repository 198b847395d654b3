"""The rows of a batch of sequences on the disk, until all batches are there: raw numbers, written as layers appear.

A part is strand after strand, layer after layer, sequence after sequence: little-endian fp32 [strands, layers, r, D]
for a batch with r rows. So writing never goes back, and any rows of a layer are read without the rest.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens, reverse_complement
from hyena_dist.errors import UserError
from hyena_dist.inference.batches import pad_right
from hyena_dist.inference.hidden import Rows, reduced_states
from hyena_dist.models.lm import HyenaDNA

STRANDS = {"one": 1, "both": 2, "concat": 2}
"""How many strands a choice computes: the given one; both, averaged; or both, the given one's numbers first."""
_FP32 = np.dtype("<f4")


class PartLayout(NamedTuple):
    """The content of all parts, and where each of them has it."""

    batches: Sequence[NDArray[np.int64]]
    """The sequences of each part, by their numbers in the input."""
    lengths: NDArray[np.int64]
    """Bases of each sequence, [N]."""
    rows: Rows
    layers: tuple[int, ...]
    strands: str
    """One of STRANDS."""
    d_model: int

    @property
    def width(self) -> int:
        """Numbers of a row once strands are joined."""
        return self.d_model * (2 if self.strands == "concat" else 1)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """The first row of each sequence in the order of the input and, at the end, R; int64 [N + 1]."""
        return self.rows.offsets(self.lengths)

    def write(self, path: Path, model: HyenaDNA, names: Sequence[str], batch: Sequence[Tokens], number: int) -> None:
        """Compute the part of a batch, given the tokens of its sequences, and write it; atomic it is not.

        Raises:
            UserError: a hidden state is not finite.
        """
        device = model.backbone.ln_f.weight.device
        with path.open("wb") as file:
            for turned in (False, True)[: STRANDS[self.strands]]:
                tokens, lengths = pad_right([reverse_complement(t) if turned else t for t in batch])
                inputs = tokens.to(device), lengths.to(device)
                for layer, rows in reduced_states(model, *inputs, self.layers, self.rows, turned):
                    if not torch.isfinite(rows).all():
                        about = names[self.batches[number][0]]
                        raise UserError(
                            f"layer {layer} gives NaN or infinite numbers in the batch of {about}; take another "
                            f"checkpoint, or --dtype fp32"
                        )
                    rows.float().cpu().numpy().astype(_FP32, copy=False).tofile(file)

    def reader(self, path_of: Callable[[int], Path]) -> Callable[[int, int, int], NDArray[np.float32]]:
        """Return a function that reads rows of all parts in the order of the input, the strands joined.

        It takes the number of a layer, the first row and the one after the last, and returns fp32 [r, `width`].
        """
        counts = self.rows.per_sequence(self.lengths)
        offsets = self.offsets
        part_of, first_row, rows_of = np.empty_like(counts), np.empty_like(counts), np.empty(len(self.batches), int)
        for number, batch in enumerate(self.batches):
            part_of[batch] = number
            first_row[batch] = np.cumsum(counts[batch]) - counts[batch]
            rows_of[number] = counts[batch].sum()
        strands = STRANDS[self.strands]

        def read(layer: int, start: int, end: int) -> NDArray[np.float32]:
            row = np.arange(start, end)
            sequence = np.searchsorted(offsets, row, side="right") - 1
            part = part_of[sequence]
            inside = first_row[sequence] + row - offsets[sequence]
            found = np.empty((strands, end - start, self.d_model), _FP32)
            cuts = np.flatnonzero((np.diff(part) != 0) | (np.diff(inside) != 1)) + 1
            for a, b in pairwise([0, *cuts.tolist(), end - start]):
                with path_of(int(part[a])).open("rb") as file:
                    for strand in range(strands):
                        block = strand * len(self.layers) + self.layers.index(layer)
                        file.seek((block * int(rows_of[part[a]]) + int(inside[a])) * self.d_model * _FP32.itemsize)
                        found[strand, a:b] = np.fromfile(file, _FP32, (b - a) * self.d_model).reshape(b - a, -1)
            if self.strands == "concat":
                return np.concatenate((found[0], found[1]), axis=1)
            return found[0] if self.strands == "one" else (found[0] + found[1]) / 2

        return read
