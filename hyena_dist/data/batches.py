"""From windows to the tensors of a step.

Shapes: A gradient accumulation steps, B micro batch size, L sequence length, S = L / P positions of one of P context
ranks, W windows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.config.data import DataConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.sampling.train_windows import Sampler, Windows
from hyena_dist.data.sampling.valid_starts import Genome, n_ranges
from hyena_dist.data.store.store import GenomeStore
from hyena_dist.data.tokenizer import BASES, Tokens, reverse_complement

IGNORE_INDEX = -100
"""Targets with this value (torch's ignore_index) count neither in the loss nor in what it is divided by."""


class StepBatch(NamedTuple):
    """What one rank trains on in one step."""

    stage: StagePlan
    step: int
    tokens: Tensor
    """uint8 [A, B, S + 1]"""
    weights: Tensor | None
    """float32 [A, B, S], weight of each target in the loss; None if all are 1."""
    total_weight: float
    """Sum of the weights of the targets that count."""
    first_samples: tuple[int, ...]
    """[A], index in the global batch of each micro-batch's first sample."""


def inputs_and_targets(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [..., S + 1] -> inputs and targets, int64 [..., S], on the device that the tokens are on.

    N, padding and other specials are never predicted: their targets are IGNORE_INDEX.
    """
    following = tokens[..., 1:]
    counted = following - BASES[0] < len(BASES)  # below A, uint8 wraps to large numbers
    return tokens[..., :-1].long(), torch.where(counted, following.long(), IGNORE_INDEX)


def read_windows(store: GenomeStore, windows: Windows, size: int) -> Tokens:
    """Tokens of windows of `size` bases: uint8 [W, size]."""
    tokens = store.read_many(windows.contig, windows.start, size)
    if windows.reverse.any():
        tokens[windows.reverse] = reverse_complement(tokens[windows.reverse])
    return tokens


def read_soft_mask(store: GenomeStore, windows: Windows, size: int) -> NDArray[np.bool_]:
    """Which bases of windows are lower-case: bool [W, size]."""
    names = list(store.contigs)
    rows = []
    for contig, start, reverse in zip(*(x.tolist() for x in windows), strict=True):
        row = store.soft_mask(names[contig], start, start + size)
        rows.append(row[::-1] if reverse else row)
    return np.stack(rows)


class StepReader:
    """Reads a rank's batch of any step, whatever was read before. Picklable.

    Micro-batch a of data-parallel rank r holds samples (a * R + r) * B to (a * R + r + 1) * B of the global batch (R
    ranks), so that the global batch is the same for every R. Of each, a context rank reads its own chunk alone.

    Args:
        store: where tokens come from.
        stages: the curriculum.
        data: how windows are chosen and weighted.
        seed: of the run.
        rank: of this process among the data-parallel ranks.
        context: (rank, size) of this process among the context-parallel ranks.

    Raises:
        UserError: a stage without windows, or weights for a soft mask that the store has not.
    """

    def __init__(
        self,
        store: GenomeStore,
        stages: Sequence[StagePlan],
        data: DataConfig,
        *,
        seed: int,
        rank: int,
        context: tuple[int, int] = (0, 1),
    ) -> None:
        self._store, self._stages, self._rank, self._context = store, stages, rank, context
        self._repeat_weight = data.soft_mask_loss_weight
        if self._repeat_weight < 1:
            store.soft_mask(next(iter(store.contigs)), 0, 0)  # refuses a store without one now, not in the first step
        n = n_ranges(store, Genome(store)) if data.max_n_fraction < 1 else None
        self._samplers = [Sampler(store, s.seq_length, data, seed=seed, stage=s.number, n=n) for s in stages]

    def __call__(self, step: int) -> StepBatch:
        """The batch of a step."""
        stage = next(s for s in self._stages if step < s.end_step)
        micro, ranks = stage.micro_batch_size, stage.data_parallel_size
        firsts = (np.arange(stage.gradient_accumulation_steps) * ranks + self._rank) * micro
        in_global_batch = (firsts[:, None] + np.arange(micro)).ravel()
        samples = (step - stage.first_step) * stage.global_batch_size + in_global_batch
        windows = self._samplers[stage.number].windows(samples).part(stage.seq_length, *self._context)
        size = stage.seq_length // self._context[1] + 1
        tokens = read_windows(self._store, windows, size)
        counted = tokens[:, 1:] - np.uint8(BASES[0]) < len(BASES)  # as in inputs_and_targets
        weights, total = None, float(np.count_nonzero(counted))
        if self._repeat_weight < 1:
            repeat = read_soft_mask(self._store, windows, size)[:, 1:]
            weights = torch.from_numpy(np.where(repeat, np.float32(self._repeat_weight), np.float32(1)))
            weights = weights.view(len(firsts), micro, -1)
            total += (float(np.float32(self._repeat_weight)) - 1) * np.count_nonzero(counted & repeat)
        return StepBatch(
            stage,
            step,
            torch.from_numpy(tokens).view(len(firsts), micro, -1),
            weights,
            total,
            tuple(firsts.tolist()),
        )
