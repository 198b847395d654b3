"""The batches of a run on contexts: which queries and demonstrations a step holds depends on (seed, step) alone.

Shapes: B contexts in a micro-batch, S positions of this context rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.permutation import key_of, permute
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.in_context.contexts import Context, ContextWriter
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.train.objective import Batch

_ORDER, _SHOTS, _DROPOUT = range(3)
"""The purposes of random numbers."""


class ContextBatch(NamedTuple):
    """One micro-batch of contexts, on the CPU."""

    inputs: Tensor
    """This context rank's chunk, uint8 [B, S]."""
    targets: Tensor
    """The letter to follow each input where one is to be learned, else -100; int64 [B, S]."""
    dropout_seeds: Sequence[int]
    """The seeds of dropout, [B]."""


class ContextReader:
    """Writes one rank's batch of any step, in any order; it can be pickled, for processes that read ahead.

    Micro-batch a of data-parallel rank r (of R ranks) holds samples (a * R + r) * B to (a * R + r + 1) * B of the
    global batch. Samples are numbered through the run: each len(train) of them are a shuffle of train.

    Args:
        data: the labelled sequences.
        settings: what a context consists of.
        stages: all stages of the curriculum.
        seed: the run's.
        mesh: says which contexts, and which of their positions, are this rank's.
    """

    def __init__(
        self, data: LabelledData, settings: InContextConfig, stages: Sequence[StagePlan], seed: int, mesh: Mesh
    ) -> None:
        self.train = data.splits["train"]
        self.settings = settings
        self.stages = stages
        self.seed = seed
        self.data_rank = mesh.data.rank()
        self.context = mesh.context.rank(), mesh.context.size()
        self.demonstrations = Demonstrations(self.train.labels, data.classes, settings.shots)

    def __call__(self, step: int) -> Batch[ContextBatch]:
        """Return the batch of a step."""
        stage = next(s for s in self.stages if step < s.end_step)
        before = sum((s.end_step - s.first_step) * s.global_batch_size for s in self.stages[: stage.number])
        first = before + (step - stage.first_step) * stage.global_batch_size
        ranks, size = stage.data_parallel_size, stage.micro_batch_size
        starts = [first + (a * ranks + self.data_rank) * size for a in range(stage.gradient_accumulation_steps)]
        micro_batches = [self._micro_batch(range(start, start + size), stage.seq_length) for start in starts]
        weight = sum(int((batch.targets >= 0).sum()) for batch in micro_batches)
        return Batch(stage, step, micro_batches, float(weight))

    def _micro_batch(self, samples: range, length: int) -> ContextBatch:
        write = ContextWriter(self.train, self.settings, length).write
        contexts: list[Context] = []
        for sample, query in zip(samples, self.queries(samples), strict=True):
            shown = self.demonstrations.draw(self.seed, _SHOTS, sample, query=query)
            contexts.append(write(self.train.read(query), int(self.train.labels[query]), shown))
        rank, ranks = self.context
        mine = slice(rank * length // ranks, (rank + 1) * length // ranks)
        inputs = torch.from_numpy(np.stack([context.inputs[mine] for context in contexts]))
        targets = torch.from_numpy(np.stack([context.targets[mine] for context in contexts]))
        return ContextBatch(inputs, targets, [int(key_of(self.seed, _DROPOUT, s)) >> 1 for s in samples])

    def queries(self, samples: range) -> list[int]:
        """Return the indices of the examples of train that the samples ask for."""
        size = len(self.train)
        epochs, places = np.divmod(np.array(samples), size)
        keys = np.array([key_of(self.seed, _ORDER, int(epoch)) for epoch in epochs])
        found: list[int] = permute(places, np.full(len(samples), size), keys).tolist()
        return found
