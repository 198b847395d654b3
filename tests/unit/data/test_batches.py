"""The batches of a run are the same for every number of ranks and workers, from any step, store or shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.shards import ShardOptions, write_shards
from data_prep.splits import BedSplits
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.data.batches import IGNORE_INDEX, StepBatch, StepReader, inputs_and_targets, read_windows
from hyena_dist.data.loader import Loader
from hyena_dist.data.sampling.train_windows import Windows
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import CLS, MASK, PAD, UNK, A, C, G, N, T, decode
from hyena_dist.errors import UserError

BED = "a\t0\t700\ttrain\na\t1000\t1500\ttrain\nb\t100\t300\ttrain\na\t700\t1000\tvalid\n"
STAGES = [{"seq_length": 20, "train_iters": 3}, {"seq_length": 60, "train_iters": 4}]
STEPS = 7
BACK_ENDS = ("store", "shards")
layouts = st.sampled_from([(ranks, context) for ranks in (1, 2, 4) for context in (1, 2, 5)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batches")
    draw = np.random.default_rng(0)
    letters = {name: "".join(draw.choice(list("ACGTNacgt"), 1500)) for name in "ab"}
    (path / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in letters.items()))
    (path / "x.bed").write_text(BED)
    build_store([path / "x.fa"], path / "store", BuildOptions(BedSplits(path / "x.bed"), True), say=lambda _: None)
    write_shards(path / "store", path / "shards", ShardOptions(window=101), say=lambda _: None)
    return path


@pytest.fixture(scope="module")
def stores(folder: Path) -> dict[str, GenomeStore]:
    return {name: GenomeStore.open(folder / name) for name in BACK_ENDS}


@pytest.fixture(scope="module")
def store(stores: dict[str, GenomeStore]) -> GenomeStore:
    return stores["store"]


def config(train: dict[str, Any] | None = None, **data: Any) -> RunConfig:
    base = {"curriculum": STAGES, "global_batch_size": 8}
    return parse_config({"seed": 5, "data": {"path": "-"} | data, "train": base | (train or {})}, "test")


def reader(
    store: GenomeStore, run: RunConfig, ranks: int = 1, rank: int = 0, context: tuple[int, int] = (0, 1)
) -> StepReader:
    return StepReader(store, run.stages(ranks), run.data, seed=run.seed, rank=rank, context=context)


def whole_steps(store: GenomeStore, run: RunConfig, ranks: int, contexts: int, steps: range) -> Iterator[StepBatch]:
    """Return the global batch of each step, put together from what every rank reads: tokens [1, 8, L + 1]."""
    readers = [[reader(store, run, ranks, rank, (c, contexts)) for c in range(contexts)] for rank in range(ranks)]
    for step in steps:
        rows: dict[int, torch.Tensor] = {}
        weights: dict[int, torch.Tensor] = {}
        total = 0.0
        for of_rank in readers:
            parts = [read(step) for read in of_rank]
            # Chunks share their border: the last target of one is the first input of the next.
            tokens = torch.cat([parts[0].tokens, *(p.tokens[..., 1:] for p in parts[1:])], dim=-1)
            total += sum(p.total_weight for p in parts)
            for a, first in enumerate(parts[0].first_samples):
                for i in range(parts[0].stage.micro_batch_size):
                    assert first + i not in rows, "two ranks read one sample"
                    rows[first + i] = tokens[a, i]
                    if parts[0].weights is not None:
                        weights[first + i] = torch.cat([p.weights[a, i] for p in parts])
        assert sorted(rows) == list(range(8))
        tokens = torch.stack([rows[i] for i in range(8)])[None]
        whole = torch.stack([weights[i] for i in range(8)])[None] if weights else None
        yield StepBatch(parts[0].stage, step, tokens, whole, total, (0,))


def same(a: StepBatch, b: StepBatch) -> bool:
    weights = (a.weights is None and b.weights is None) or torch.equal(a.weights, b.weights)
    return torch.equal(a.tokens, b.tokens) and weights and a.total_weight == pytest.approx(b.total_weight, rel=1e-9)


def test_shapes_and_types(store: GenomeStore) -> None:
    read = reader(store, config({"micro_batch_size": 2}, soft_mask_loss_weight=0.5), ranks=2)
    for step in range(STEPS):
        batch = read(step)
        assert (batch.step, batch.stage.number) == (step, int(step >= 3))
        assert batch.tokens.shape == (2, 2, batch.stage.seq_length + 1)
        assert batch.tokens.dtype == torch.uint8
        assert batch.weights.shape == (2, 2, batch.stage.seq_length)
        assert batch.weights.dtype == torch.float32
        assert batch.first_samples == (0, 4)
    assert reader(store, config())(0).weights is None


@settings(max_examples=40, deadline=None)
@given(
    layout=layouts,
    back_end=st.sampled_from(BACK_ENDS),
    micro=st.none() | st.sampled_from([1, 2]),
    first=st.integers(0, STEPS - 1),
    data=st.fixed_dictionaries(
        {
            "sampling": st.sampled_from(["interval", "published", "uniform"]),
            "reverse_complement": st.booleans(),
            "soft_mask_loss_weight": st.sampled_from([1.0, 0.1]),
            "max_n_fraction": st.sampled_from([1.0, 0.5]),
        }
    ),
)
def test_the_global_batch_is_the_same_in_every_layout_from_any_step(
    stores: dict[str, GenomeStore], layout: tuple[int, int], back_end: str, micro: int | None, first: int, data: Any
) -> None:
    """Any number of ranks, from any step on and from either back end, read what one rank reads in one go."""
    ranks, context = layout
    if back_end == "shards":
        data |= {"soft_mask_loss_weight": 1.0}
    whole = reader(stores["store"], config({"micro_batch_size": 8}, **data))
    run = config({"micro_batch_size": micro}, **data)
    for found in whole_steps(stores[back_end], run, ranks, context, range(first, STEPS)):
        assert same(found, whole(found.step))


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more processes than cores here
def test_workers_read_the_same_in_order(stores: dict[str, GenomeStore], back_end: str, workers: int) -> None:
    """Two goes meet in the middle of a stage, with other numbers of ranks and workers before and after."""
    alone = reader(stores["store"], config())
    with Loader(reader(stores[back_end], config()), range(5), workers=workers, prefetch=2) as loader:
        before = list(loader)
    assert [b.step for b in before] == list(range(5))
    assert all(same(b, alone(b.step)) for b in before)
    for rank in range(2):
        read = reader(stores[back_end], config(), 2, rank)
        with Loader(read, range(5, STEPS), workers=3 - workers, prefetch=1) as loader:
            after = list(loader)
        assert [b.step for b in after] == [5, 6]
        for batch in after:
            firsts = torch.tensor(batch.first_samples)[:, None] + torch.arange(batch.stage.micro_batch_size)
            assert torch.equal(batch.tokens.flatten(0, 1), alone(batch.step).tokens.flatten(0, 1)[firsts.flatten()])


def test_samples_differ_within_and_across_stages(store: GenomeStore) -> None:
    stages = [{"seq_length": 20, "train_iters": n} for n in (3, 4)]
    read = reader(store, config({"curriculum": stages}, sampling="uniform"))
    rows = [row.numpy().tobytes() for step in range(STEPS) for row in read(step).tokens.flatten(0, 1)]
    assert len(set(rows[:24])) == 24
    assert len(set(rows)) > 50  # a stage draws anew: by chance, a window comes twice


def test_targets_are_the_next_bases_of_the_training_regions(store: GenomeStore) -> None:
    text = {name: decode(store.read(name, 0, 1500)) for name in "ab"}
    free = [text[r.contig][r.start : r.end] for r in store.free]
    read = reader(store, config())
    for step in range(STEPS):
        inputs, targets = inputs_and_targets(read(step).tokens)
        assert inputs.dtype == targets.dtype == torch.int64
        for row, following in zip(inputs.flatten(0, 1), targets.flatten(0, 1), strict=True):
            where = next(region for region in free if decode(row.numpy()) in region)
            expected = where[where.index(decode(row.numpy())) :][1 : len(row) + 1]
            found = "".join("N" if t == IGNORE_INDEX else decode(np.array([t])) for t in following)
            assert found == expected


def test_specials_are_read_but_never_predicted() -> None:
    tokens = torch.tensor([[A, N, C, PAD, G, UNK, T, CLS, A, MASK, N]], dtype=torch.uint8)
    inputs, targets = inputs_and_targets(tokens)
    assert inputs.tolist() == [[A, N, C, PAD, G, UNK, T, CLS, A, MASK]]
    i = IGNORE_INDEX
    assert targets.tolist() == [[i, C, i, G, i, T, i, A, i, i]]


def test_the_other_strand(store: GenomeStore) -> None:
    windows = Windows(np.array([0, 0]), np.array([40, 40]), np.array([False, True]))
    forward, backward = read_windows(store, windows, 50)
    assert decode(backward) == decode(forward)[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert decode(forward) == decode(store.read("a", 40, 90))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_weights_are_those_of_lower_case_targets(store: GenomeStore, folder: Path, weight: float, both: bool) -> None:
    letters = {}
    for record in (folder / "x.fa").read_text().split(">")[1:]:
        name, text = record.split()
        letters[name] = text
    read = reader(store, config(soft_mask_loss_weight=weight, reverse_complement=both, sampling="uniform"))
    sampler = read._samplers[1]
    batch = read(3)
    windows = sampler.windows(np.arange(8))
    total = 0.0
    for row, contig, start, reverse in zip(batch.weights[0], *windows, strict=True):
        text = letters["ab"[contig]][start : start + 61]
        text = text[::-1] if reverse else text
        assert row.tolist() == [weight if letter.islower() else 1.0 for letter in text[1:]]
        total += sum((weight if letter.islower() else 1.0) for letter in text[1:] if letter != "N")
    assert batch.total_weight == pytest.approx(total, rel=1e-9)
    _, targets = inputs_and_targets(batch.tokens)
    assert batch.total_weight == pytest.approx(float(batch.weights[targets >= 0].double().sum()), rel=1e-6)


def test_weights_need_a_soft_mask(stores: dict[str, GenomeStore]) -> None:
    with pytest.raises(UserError, match="has no lower-case mask"):
        reader(stores["shards"], config(soft_mask_loss_weight=0.5))
