"""Batches of labelled sequences as functions of (seed, step)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import TrainConfig
from hyena_dist.data.tokenizer import PAD, decode, reverse_complement
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.labelled import Examples, Kind
from hyena_dist.tasks.labelled_batches import LabelledBatch, LabelledReader, cropped, pack
from hyena_dist.tasks.losses import Criterion
from hyena_dist.train.objective import Batch


@dataclass(frozen=True)
class Group:
    """A rank of so many, without the others."""

    number: int = 0
    count: int = 1

    def rank(self) -> int:
        return self.number

    def size(self) -> int:
        return self.count


def examples(count: int, kind: Kind = "single_label", longest: int = 40) -> Examples:
    generator = np.random.default_rng(0)
    lengths = generator.integers(longest // 2, longest + 1, count)
    sequences = [generator.integers(7, 11, n).astype(np.uint8) for n in lengths]
    labels: Any = np.arange(count)
    if kind == "per_base":
        labels = np.empty(count, dtype=object)
        labels[:] = [sequence.astype(np.int64) - 7 for sequence in sequences]
    return Examples([str(i) for i in range(count)], lengths, labels, sequences.__getitem__)


def read(
    train: Examples,
    *,
    kind: Kind = "single_label",
    ranks: int = 1,
    micro: int = 4,
    mesh: Mesh | None = None,
    seed: int = 0,
    strands: bool = False,
    lengths: tuple[int, ...] = (40,),
    iters: int = 5,
) -> LabelledReader:
    curriculum = [{"seq_length": n, "train_iters": iters} for n in lengths]
    settings = TrainConfig(curriculum=curriculum, global_batch_size=8, micro_batch_size=micro)  # type: ignore[arg-type]
    stages = settings.stages([(ParallelConfig(), ranks) for _ in lengths])
    return LabelledReader(train, Criterion(kind), stages, seed, strands, mesh or Mesh())


def in_order(batches: list[Batch[LabelledBatch]]) -> list[str]:
    """The sequences of a step over all data ranks, in the order of the global batch."""
    found = []
    for group in zip(*(batch.micro_batches for batch in batches), strict=True):
        for each in group:
            found += [decode(row[:n].numpy()) for row, n in zip(each.tokens, each.lengths, strict=True)]
    return found


@given(st.integers(1, 30), st.integers(0, 2**63))
def test_an_epoch_has_each_example_once(count: int, seed: int) -> None:
    reader = read(examples(count), seed=seed, iters=20)
    drawn = np.concatenate([reader.draw(step).examples for step in range(20)])
    for epoch in range(len(drawn) // count):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_differ() -> None:
    train = examples(8)
    orders = [tuple(read(train, seed=seed).draw(step).examples) for seed in range(2) for step in range(5)]
    assert len(set(orders)) == 10


def test_epochs_go_on_through_stages() -> None:
    train = examples(12)
    one, two = read(train, iters=6), read(train, lengths=(20, 40), iters=3)
    for step in range(6):
        assert (one.draw(step).examples == two.draw(step).examples).all()


@pytest.mark.parametrize(("ranks", "micro"), [(1, 2), (1, 8), (2, 4), (4, 1)])
def test_ranks_share_the_same_samples(ranks: int, micro: int) -> None:
    train = examples(30)
    meshes = [Mesh(data=Group(rank, ranks)) for rank in range(ranks)]
    readers = [read(train, ranks=ranks, micro=micro, mesh=mesh, strands=True) for mesh in meshes]
    whole = read(train, micro=8, strands=True)
    for step in range(5):
        batches = [reader(step) for reader in readers]
        assert in_order(batches) == in_order([whole(step)])
        assert sum(batch.weight for batch in batches) == 8
        widths = {each.tokens.shape[1] for batch in batches for each in batch.micro_batches}
        assert len(widths) == 1, "filters are evaluated once for all micro-batches"


def test_the_other_strand() -> None:
    train = examples(400)
    reader = read(train, strands=True, iters=50)
    draws = [reader.draw(step) for step in range(50)]
    assert 0.4 < np.mean([draw.reverse.mean() for draw in draws]) < 0.6
    (packed,) = read(train, micro=8, strands=True)(3).micro_batches
    for row, index in enumerate(draws[3].examples):
        sequence = train.read(index)
        expected = reverse_complement(sequence) if draws[3].reverse[row] else sequence
        assert (packed.tokens[row, : len(expected)].numpy() == expected).all()
        assert (packed.tokens[row, len(expected) :] == PAD).all()


def test_labels_of_bases_turn_with_them() -> None:
    train = examples(4, "per_base")
    packed = pack(train, np.arange(4), np.array([True, False, True, False]), 40, "per_base", Mesh())
    complement = {0: 3, 1: 2, 2: 1, 3: 0}
    for row, length in enumerate(packed.lengths):
        bases = packed.tokens[row, :length].long() - 7
        labels = packed.labels[row, :length].tolist()
        assert labels == (bases.tolist() if row % 2 else [complement[base] for base in bases.tolist()])
        assert (packed.labels[row, length:] == -100).all()


def test_context_ranks_hold_chunks() -> None:
    train = examples(4, "per_base")
    none = np.zeros(4, dtype=bool)
    whole = pack(train, np.arange(4), none, 40, "per_base", Mesh())
    parts = [pack(train, np.arange(4), none, 40, "per_base", Mesh(context=Group(rank, 4))) for rank in range(4)]
    assert torch.equal(torch.cat([part.tokens for part in parts], 1), whole.tokens)
    assert torch.equal(torch.cat([part.labels for part in parts], 1), whole.labels)
    assert all(torch.equal(part.lengths, whole.lengths) for part in parts)
    assert pack(examples(4), np.arange(4), none, 40, "single_label", Mesh(context=Group(3, 4))).share == 0.25


@given(st.integers(1, 50))
def test_longer_sequences_lose_their_ends(most: int) -> None:
    train = examples(6, "per_base")
    cut = cropped(train, "per_base", most)
    for index in range(6):
        whole, kept = train.read(index), cut.read(index)
        start = max(0, len(whole) - most) // 2
        assert (kept == whole[start : start + most]).all()
        assert len(kept) == cut.lengths[index] == len(cut.labels[index]) == min(most, len(whole))
        assert (cut.labels[index] == kept.astype(np.int64) - 7).all()
