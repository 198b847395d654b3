"""The tensors that one rank trains on in one step: which windows they hold, read, oriented and weighted.

Shapes: A micro-batches in a step (gradient accumulation), B samples in a micro-batch, L sequence length, S = L / P
positions of one of P context-parallel ranks, W windows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.config.data import DataConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.sampling.train_windows import Sampler, Windows
from hyena_dist.data.sampling.valid_starts import GenomeAxis, n_ranges
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import BASES, Tokens, reverse_complement

IGNORE_INDEX = -100
"""The value of targets that count neither in the loss nor in what it is divided by (torch's ignore_index)."""


class StepBatch(NamedTuple):
    """The samples that one rank trains on in one step."""

    stage: StagePlan
    """The curriculum stage that the step belongs to."""
    step: int
    """Number of the step in the run, counted from 0."""
    tokens: Tensor
    """Inputs and, one position later, their targets; uint8 [A, B, S + 1] on the CPU."""
    weights: Tensor | None
    """Weight of each target in the loss, float32 [A, B, S]; None if all weights are 1."""
    total_weight: float
    """Sum of the weights of this rank's targets, without those that are ignored."""
    first_samples: tuple[int, ...]
    """Index in the global batch of the first sample of each of the A micro-batches."""
    contigs: tuple[int, ...] = ()
    """Number of the contig, in the order of the store, of each of the A * B samples."""


def is_base(tokens: Any) -> Any:
    """Tell which tokens are A, C, G or T.

    Args:
        tokens: a uint8 array of numpy or tensor of torch, of any shape.

    Returns:
        An array or tensor of bool of the same shape.
    """
    return tokens - BASES[0] < len(BASES)  # what is below A wraps around to large numbers


def inputs_and_targets(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Split token sequences into inputs and next-token targets.

    Args:
        tokens: uint8 [..., S + 1].

    Returns:
        Inputs and targets, int64 [..., S] each, on the device of the tokens. Only A, C, G and T are predicted: where
        the next token is N, padding or another special one, the target is IGNORE_INDEX.
    """
    following = tokens[..., 1:]
    return tokens[..., :-1].long(), torch.where(is_base(following), following.long(), IGNORE_INDEX)


def read_windows(store: GenomeStore, windows: Windows, size: int) -> Tokens:
    """Read windows of `size` bases, each from its strand.

    Returns:
        Tokens, uint8 [W, size].
    """
    tokens = store.read_many(windows.contig, windows.start, size)
    if windows.reverse.any():
        tokens[windows.reverse] = reverse_complement(tokens[windows.reverse])
    return tokens


def read_soft_mask(store: GenomeStore, windows: Windows, size: int) -> NDArray[np.bool_]:
    """Read which bases of windows are lower-case, in the order in which `read_windows` returns the bases.

    Returns:
        A mask, bool [W, size].
    """
    rows = []
    for contig, start, reverse in zip(*(column.tolist() for column in windows), strict=True):
        row = store.soft_mask(contig, start, start + size)
        rows.append(row[::-1] if reverse else row)
    return np.stack(rows)


class StepReader:
    """Reads one rank's batch of any step, in any order: a batch depends on its step and on nothing read before.

    Micro-batch a of data-parallel rank r (of R ranks) holds samples (a * R + r) * B to (a * R + r + 1) * B of the
    global batch, so that the global batch is the same for every R. A context-parallel rank reads only its own chunk of
    each sample. A StepReader can be pickled, so that Loader can hand copies to worker processes.

    Args:
        store: genome store that tokens are read from.
        stages: all stages of the curriculum, in order.
        data: how windows are chosen and weighted.
        seed: seed of the run.
        rank: rank of this process among the data-parallel ranks.
        context: rank of this process among the context-parallel ranks, and how many these are.

    Raises:
        UserError: A stage has no windows, or repeats are to be weighted and the store has no soft mask.
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
        self._store = store
        self._stages = stages
        self._rank = rank
        self._context = context
        self._repeat_weight = data.soft_mask_loss_weight
        if self._repeat_weight < 1:
            store.soft_mask(0, 0, 0)  # raises now, and not in the first step, if there is none
        n = n_ranges(store, GenomeAxis(store)) if data.max_n_fraction < 1 else None
        self._samplers = [
            Sampler(store, stage.seq_length, data, seed=seed, stage=stage.number, n=n) for stage in stages
        ]

    def __call__(self, step: int) -> StepBatch:
        """Read this rank's batch of a step.

        Args:
            step: number of the step in the run, counted from 0.

        Raises:
            UserError: A file of the store is missing or damaged.
        """
        stage = next(stage for stage in self._stages if step < stage.end_step)
        micro = stage.micro_batch_size
        ranks = stage.data_parallel_size
        firsts = (np.arange(stage.gradient_accumulation_steps) * ranks + self._rank) * micro
        in_global_batch = (firsts[:, None] + np.arange(micro)).ravel()
        samples = (step - stage.first_step) * stage.global_batch_size + in_global_batch
        windows = self._samplers[stage.number].windows(samples).part(stage.seq_length, *self._context)
        size = stage.seq_length // self._context[1] + 1
        tokens = read_windows(self._store, windows, size)
        counted = is_base(tokens[:, 1:])
        weights = None
        total = float(np.count_nonzero(counted))
        if self._repeat_weight < 1:
            repeat = read_soft_mask(self._store, windows, size)[:, 1:]
            weights = torch.from_numpy(np.where(repeat, np.float32(self._repeat_weight), np.float32(1)))
            weights = weights.view(len(firsts), micro, -1)
            total += (float(np.float32(self._repeat_weight)) - 1) * np.count_nonzero(counted & repeat)
        return StepBatch(
            stage=stage,
            step=step,
            tokens=torch.from_numpy(tokens).view(len(firsts), micro, -1),
            weights=weights,
            total_weight=total,
            first_samples=tuple(firsts.tolist()),
            contigs=tuple(windows.contig.tolist()),
        )
