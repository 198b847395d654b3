"""The batches of a fine-tuning run: what a step holds is a function of (seed, step), whatever came before.

Shapes: B batch, W positions of the padded sequences, S = W / P those of one of P context ranks, C classes or targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.data.permutation import Numbers, key_of, mix, permute
from hyena_dist.data.tokenizer import PAD, Tokens, reverse_complement
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.labelled import Examples, Kind
from hyena_dist.tasks.losses import Criterion
from hyena_dist.train.objective import Batch

VERSION = 1
"""Changes when a step would hold other samples than before."""

_ORDER, _STRAND, _DROPOUT = range(3)
"""What random numbers are for, so that none serves two purposes."""
_STEP = 64
"""Widths of batches are multiples of this where the stage allows, so that there are few of them."""


class LabelledBatch(NamedTuple):
    """One micro-batch of labelled sequences, on the CPU."""

    tokens: Tensor
    """This context rank's chunk of the sequences, padded to the right, uint8 [B, S]."""
    lengths: Tensor
    """Positions of each whole sequence, of all context ranks, int64 [B]."""
    labels: Tensor
    """Labels, by kind as Examples.labels has them: int64 [B], float32 [B, C], or int64 [B, S] of this chunk's bases.
    """
    share: float
    """The part of the labels' loss that this rank counts: context ranks have the labels of whole sequences in common.
    """
    dropout_seeds: Sequence[int]
    """The seeds of dropout, [B]; none where nothing is trained."""


class Draw(NamedTuple):
    """The samples of a step over all ranks, G of them."""

    examples: Numbers
    """Index of each, int64 [G]."""
    reverse: NDArray[np.bool_]
    """Whether each is read from the other strand, [G]."""
    dropout_seeds: Numbers
    """Seed of dropout of each, int64 [G]."""


def cropped(examples: Examples, kind: Kind, most: int) -> Examples:
    """Return examples of which the longer ones are cut to the `most` bases in their middle, and their labels so."""
    if (examples.lengths <= most).all():
        return examples
    labels = examples.labels
    if kind == "per_base":
        labels = np.empty(len(examples), dtype=object)
        labels[:] = [middle(each, most) for each in examples.labels]
    return replace(
        examples,
        lengths=np.minimum(examples.lengths, most),
        labels=labels,
        read=lambda index: middle(examples.read(index), most),
    )


def middle(values: Tokens, most: int) -> Tokens:
    """Return the `most` values in the middle of an array, all if there are no more."""
    start = max(0, len(values) - most) // 2
    return values[start : start + most]


def width_for(lengths: NDArray[np.int64], most: int, unit: int) -> int:
    """Return how wide a batch of sequences is: the longest, rounded up to few sizes that ranks can share.

    Args:
        lengths: the lengths of the sequences.
        most: what no batch exceeds, a multiple of unit; longer sequences are cut.
        unit: number of parts that ranks cut sequences into.
    """
    step = _STEP * unit
    return min(most, -(-int(lengths.max()) // step) * step)


def pack(
    examples: Examples, indices: Numbers, reverse: NDArray[np.bool_], width: int, kind: Kind, mesh: Mesh
) -> LabelledBatch:
    """Read examples as a batch, padded to the right; of longer ones the middle is taken.

    Args:
        examples: a split.
        indices: which of them, [B].
        reverse: which are read from the other strand, [B].
        width: W, a multiple of the number of context ranks.
        kind: what the labels say.
        mesh: this rank's groups, of which the context ranks share the positions.
    """
    tokens = np.full((len(indices), width), PAD, dtype=np.uint8)
    bases = np.full((len(indices), width), IGNORE_INDEX, dtype=np.int64) if kind == "per_base" else None
    lengths = np.minimum(examples.lengths[indices], width)
    for row, (index, turned, length) in enumerate(zip(indices.tolist(), reverse, lengths, strict=True)):
        sequence = middle(examples.read(index), width)
        tokens[row, :length] = reverse_complement(sequence) if turned else sequence
        if bases is not None:
            labels = middle(examples.labels[index], width)
            bases[row, :length] = labels[::-1] if turned else labels
    size = width // mesh.context.size()
    here = slice(mesh.context.rank() * size, (mesh.context.rank() + 1) * size)
    share = 1.0 if kind == "per_base" else 1 / mesh.context.size()
    known = examples.labels[indices] if bases is None else np.ascontiguousarray(bases[:, here])
    chunk = torch.from_numpy(np.ascontiguousarray(tokens[:, here]))
    return LabelledBatch(chunk, torch.from_numpy(lengths), torch.from_numpy(known), share, ())


@dataclass(frozen=True)
class LabelledReader:
    """Reads one rank's batch of any step, in any order.

    Epochs are permutations of the examples, one after the other through all stages: the last step of an epoch begins
    the next. Micro-batch a of data-parallel rank r (of R) holds samples (a * R + r) * B to (a * R + r + 1) * B of the
    global batch, so that the global batch is the same for every R. Where a stage is shorter than a sequence, its middle
    is read. A step is as wide as its longest sequence needs.
    """

    train: Examples
    criterion: Criterion
    stages: Sequence[StagePlan]
    seed: int
    reverse_complement: bool
    """Whether the other strand is read half of the time."""
    mesh: Mesh

    def draw(self, step: int) -> Draw:
        """Return the samples of a step over all ranks, which depend on (seed, step) and the batch sizes alone."""
        stage = self.stage(step)
        before = sum((s.end_step - s.first_step) * s.global_batch_size for s in self.stages[: stage.number])
        size = stage.global_batch_size
        numbers = before + (step - stage.first_step) * size + np.arange(size)
        epochs, places = np.divmod(numbers, len(self.train))
        keys = np.array([key_of(self.seed, _ORDER, epoch) for epoch in epochs.tolist()])
        reverse = np.zeros(size, dtype=bool)
        if self.reverse_complement:
            reverse = mix(numbers, key_of(self.seed, _STRAND)) % np.uint64(2) == 1
        seeds = (mix(numbers, key_of(self.seed, _DROPOUT)) >> np.uint64(1)).astype(np.int64)
        return Draw(permute(places, np.full(size, len(self.train)), keys), reverse, seeds)

    def __call__(self, step: int) -> Batch[LabelledBatch]:
        """Read this rank's batch of a step."""
        stage, mesh = self.stage(step), self.mesh
        draw = self.draw(step)
        width = width_for(self.train.lengths[draw.examples], stage.seq_length, mesh.residual_shard[1])
        size = stage.micro_batch_size
        micro_batches = []
        for a in range(stage.gradient_accumulation_steps):
            first = (a * mesh.data.size() + mesh.data.rank()) * size
            mine = slice(first, first + size)
            packed = pack(self.train, draw.examples[mine], draw.reverse[mine], width, self.criterion.kind, mesh)
            micro_batches.append(packed._replace(dropout_seeds=draw.dropout_seeds[mine].tolist()))
        weight = sum(self.criterion.weight_sum(each.labels) * each.share for each in micro_batches)
        return Batch(stage, step, micro_batches, weight)

    def stage(self, step: int) -> StagePlan:
        """Return the stage that a step belongs to."""
        return next(stage for stage in self.stages if step < stage.end_step)
