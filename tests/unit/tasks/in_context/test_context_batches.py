"""Batches: the global batch is the same however ranks share it, and asks for what a head would be asked for."""

from typing import Any

import numpy as np
import torch

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.tokenizer import A, C
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.in_context.context_batches import ContextReader
from hyena_dist.tasks.in_context.contexts import ContextWriter
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from hyena_dist.tasks.labelled_batches import LabelledReader
from hyena_dist.tasks.losses import Criterion
from tests.unit.tasks.in_context.examples import labelled

DATA = labelled(count=10)
SETTINGS = InContextConfig(method="instruction", shots=2, all_answers=True)
LENGTH = 32


class Group:
    """A place among ranks, without the ranks."""

    def __init__(self, rank: int, size: int) -> None:
        self._place = rank, size

    def rank(self) -> int:
        return self._place[0]

    def size(self) -> int:
        return self._place[1]


def reader(data: Group | None = None, context: Group | None = None, micro: int = 2, seed: int = 3) -> ContextReader:
    ranks = data.size() if data else 1
    stages = [
        StagePlan(i, LENGTH, 8, micro, 8 // micro // ranks, ranks, 5 * i, 5 * (i + 1), 5 * i * 8 * LENGTH, layout)
        for i, layout in enumerate([ParallelConfig()] * 2)
    ]
    groups: dict[str, Any] = {"data": data or Group(0, 1), "context": context or Group(0, 1)}
    train = DATA.splits["train"]
    queries = LabelledReader(train, Criterion("single_label"), stages, seed, False, Mesh(**groups))
    return ContextReader(
        queries, ContextWriter(DATA, SETTINGS, Demonstrations(train.labels, DATA.classes, SETTINGS.shots), seed)
    )


def rows(*readers: ContextReader, step: int = 7) -> set[tuple[Any, ...]]:
    """The samples of a step, without their order."""
    batches = [micro for read in readers for micro in read(step).micro_batches]
    return {
        (*inputs.tolist(), *targets.tolist(), seed)
        for batch in batches
        for inputs, targets, seed in zip(*batch, strict=True)
    }


def test_ranks_and_micro_batches_share_one_global_batch() -> None:
    whole = rows(reader())
    assert len(whole) == 8
    assert rows(reader(micro=8)) == rows(reader(micro=1)) == whole
    assert rows(*(reader(data=Group(rank, 2)) for rank in range(2))) == whole
    assert rows(reader(seed=4)).isdisjoint(whole)
    assert rows(reader(), step=8).isdisjoint(whole)


def test_context_ranks_share_positions() -> None:
    whole = reader()(7)
    parts = [reader(context=Group(rank, 2))(7) for rank in range(2)]
    assert sum(part.weight for part in parts) == whole.weight == 8 * 3
    for i, batch in enumerate(whole.micro_batches):
        for column in ("inputs", "targets"):
            joined = torch.cat([getattr(part.micro_batches[i], column) for part in parts], dim=1)
            assert torch.equal(joined, getattr(batch, column))


def test_a_step_asks_for_what_a_head_is_trained_on() -> None:
    read = reader()
    asked = [row[row >= 0][-1].item() for batch in read(7).micro_batches for row in batch.targets]
    examples = read.queries.draw(7).examples
    assert asked == np.array([A, C])[DATA.splits["train"].labels[examples]].tolist()
    seeds = [seed for batch in read(7).micro_batches for seed in batch.dropout_seeds]
    assert seeds == read.queries.draw(7).dropout_seeds.tolist()
