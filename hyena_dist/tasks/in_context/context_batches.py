"""The batches of a run on contexts: which queries and demonstrations a step holds depends on (seed, step) alone.

Shapes: B contexts in a micro-batch, S positions of this context rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.in_context.contexts import Context, ContextWriter
from hyena_dist.tasks.labelled_batches import LabelledReader
from hyena_dist.train.objective import Batch


class ContextBatch(NamedTuple):
    """One micro-batch of contexts, on the CPU."""

    inputs: Tensor
    """This context rank's chunk, uint8 [B, S]."""
    targets: Tensor
    """The letter to follow each input where one is to be learned, else -100; int64 [B, S]."""
    dropout_seeds: Sequence[int]
    """The seeds of dropout, [B]."""


def chunks(contexts: Sequence[Context], mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Return this context rank's chunk of inputs and targets, uint8 and int64 [B, S]."""
    rank, ranks = mesh.context.rank(), mesh.context.size()
    size = len(contexts[0].inputs) // ranks
    mine = slice(rank * size, (rank + 1) * size)
    inputs = torch.from_numpy(np.stack([context.inputs[mine] for context in contexts]))
    return inputs, torch.from_numpy(np.stack([context.targets[mine] for context in contexts]))


@dataclass(frozen=True)
class ContextReader:
    """Writes one rank's batch of any step, in any order."""

    queries: LabelledReader
    """Says what a step asks for: the same samples in the same order as a model with a head is trained on."""
    writer: ContextWriter

    def __call__(self, step: int) -> Batch[ContextBatch]:
        """Return this rank's batch of a step."""
        draw = self.queries.draw(step)
        stage = self.queries.stage(step)
        mesh, size = self.queries.mesh, stage.micro_batch_size
        micro_batches = []
        for a in range(stage.gradient_accumulation_steps):
            first = (a * mesh.data.size() + mesh.data.rank()) * size
            contexts = [
                self.writer.of_train(int(draw.examples[i]), (step, i), bool(draw.reverse[i]), stage.seq_length)
                for i in range(first, first + size)
            ]
            seeds = draw.dropout_seeds[first : first + size].tolist()
            micro_batches.append(ContextBatch(*chunks(contexts, mesh), seeds))
        weight = sum(int((batch.targets >= 0).sum()) for batch in micro_batches)
        return Batch(stage, step, micro_batches, float(weight))
