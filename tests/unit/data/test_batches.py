"""The batches of a run: the same for every number of ranks, from any step, from either source."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits
from hyena_dist.config import RunConfig
from hyena_dist.config_file import parse_config
from hyena_dist.data.batches import IGNORE_INDEX, Batches, StepBatch, inputs_and_targets, read_windows
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import CLS, MASK, PAD, UNK, A, C, G, N, T, decode
from hyena_dist.data.windows import Window
from hyena_dist.errors import UserError

BED = "a\t0\t700\ttrain\na\t1000\t1500\ttrain\nb\t100\t300\ttrain\na\t700\t1000\tvalid\n"
STAGES = [{"seq_length": 20, "train_iters": 3}, {"seq_length": 50, "train_iters": 4}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batches")
    draw = np.random.default_rng(0)
    letters = {name: "".join(draw.choice(list("ACGTN"), 1500)) for name in "ab"}
    (path / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in letters.items()))
    (path / "x.bed").write_text(BED)
    build_store(
        [path / "x.fa"], path / "s", BuildOptions(BedSplits(path / "x.bed"), shard_window=64), say=lambda _: None
    )
    return path / "s"


@pytest.fixture(scope="module")
def store(folder: Path) -> GenomeStore:
    return GenomeStore.open(folder)


def config(**train: Any) -> RunConfig:
    base = {"curriculum": STAGES, "global_batch_size": 8}
    return parse_config({"data": {"path": "-"}, "train": base | train}, "test")


def run(
    store: GenomeStore,
    config: RunConfig,
    ranks: int = 1,
    rank: int = 0,
    first_step: int = 0,
    prefetch: int = 2,
    **more: Any,
) -> list[StepBatch]:
    options = {"seed": 5, "reverse_complement": True} | more
    batches = Batches(store, config.stages(ranks), rank=rank, first_step=first_step, prefetch=prefetch, **options)
    steps = list(batches)
    batches.close()
    return steps


def same(a: StepBatch, b: StepBatch) -> bool:
    return (
        a.stage == b.stage
        and a.step == b.step
        and a.first_samples == b.first_samples
        and np.array_equal(a.input_ids, b.input_ids)
        and np.array_equal(a.targets, b.targets)
    )


def test_shapes_and_types(store: GenomeStore) -> None:
    steps = run(store, config(micro_batch_size=2), ranks=2)
    assert [b.step for b in steps] == list(range(7))
    assert [b.stage.number for b in steps] == [0, 0, 0, 1, 1, 1, 1]
    for b in steps:
        assert b.input_ids.shape == b.targets.shape == (2, 2, b.stage.seq_length)
        assert b.input_ids.dtype == b.targets.dtype == np.int64
        assert b.first_samples == (0, 4)
        assert b.wait_s >= 0


@settings(max_examples=25, deadline=None)
@given(
    ranks=st.sampled_from([1, 2, 4]),
    micro=st.none() | st.sampled_from([1, 2]),
    seed=st.integers(0, 2**40),
    both=st.booleans(),
)
def test_the_global_batch_is_the_same_for_any_number_of_ranks(
    store: GenomeStore, ranks: int, micro: int | None, seed: int, both: bool
) -> None:
    options = {"seed": seed, "reverse_complement": both}
    one = run(store, config(micro_batch_size=8), **options)
    many = [run(store, config(micro_batch_size=micro), ranks, rank, **options) for rank in range(ranks)]
    for step, whole in enumerate(one):
        length = whole.stage.seq_length
        samples: dict[int, tuple[bytes, bytes]] = {}
        for batches in many:
            b = batches[step]
            assert b.step == step
            for a, first in enumerate(b.first_samples):
                for i in range(b.stage.micro_batch_size):
                    assert first + i not in samples, "two ranks read one sample"
                    samples[first + i] = (b.input_ids[a, i].tobytes(), b.targets[a, i].tobytes())
        assert sorted(samples) == list(range(8))
        assert b"".join(samples[i][0] for i in range(8)) == whole.input_ids.tobytes()
        assert b"".join(samples[i][1] for i in range(8)) == whole.targets.tobytes()
        assert whole.input_ids.shape == (1, 8, length)


@pytest.mark.parametrize("size", [2, 4])
def test_context_ranks_read_their_chunks(store: GenomeStore, size: int) -> None:
    """Put side by side they are the windows, of either strand, and the targets across a border are there."""
    stages = config(curriculum=[{"seq_length": 40, "train_iters": 4}])
    whole = run(store, stages)
    parts = [run(store, stages, context=(rank, size)) for rank in range(size)]
    for step, batch in enumerate(whole):
        assert np.array_equal(np.concatenate([p[step].input_ids for p in parts], axis=-1), batch.input_ids)
        assert np.array_equal(np.concatenate([p[step].targets for p in parts], axis=-1), batch.targets)


@settings(max_examples=20, deadline=None)
@given(first_step=st.integers(0, 8), prefetch=st.integers(1, 9), ranks=st.sampled_from([1, 2, 4]), data=st.data())
def test_goes_on_from_any_step(
    store: GenomeStore, first_step: int, prefetch: int, ranks: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, ranks - 1))
    whole = run(store, config(), ranks, rank)
    rest = run(store, config(), ranks, rank, first_step, prefetch)
    assert len(rest) == max(0, 7 - first_step)
    assert all(same(a, b) for a, b in zip(rest, whole[first_step:], strict=True))


def test_steps_and_samples_differ(store: GenomeStore) -> None:
    rows = [row.tobytes() for b in run(store, config())[:3] for row in b.input_ids.reshape(-1, 20)]
    assert len(set(rows)) == len(rows) == 24


def test_a_border_between_stages_does_not_start_the_data_again(store: GenomeStore) -> None:
    stages = [{"seq_length": 20, "train_iters": n} for n in (3, 4)]
    two, one = (run(store, config(curriculum=c)) for c in (stages, [{"seq_length": 20, "train_iters": 7}]))
    for a, b in zip(two, one, strict=True):
        assert np.array_equal(a.input_ids, b.input_ids)


def test_either_source(folder: Path, store: GenomeStore) -> None:
    shards = run(GenomeStore.open(folder, "webdataset"), config())
    assert all(same(a, b) for a, b in zip(shards, run(store, config()), strict=True))


def test_targets_are_the_next_bases_of_the_training_regions(store: GenomeStore) -> None:
    text = {name: decode(store.read(name, 0, 1500)) for name in "ab"}
    regions = [text[r.contig][r.start : r.end] for r in store.splits["train"]]
    for b in run(store, config(), reverse_complement=False):
        for inputs, targets in zip(
            b.input_ids.reshape(-1, b.stage.seq_length), b.targets.reshape(-1, b.stage.seq_length), strict=True
        ):
            where = [region for region in regions if decode(inputs) in region]
            assert where
            following = where[0][where[0].index(decode(inputs)) :][1 : len(inputs) + 1]
            assert "".join("N" if t == IGNORE_INDEX else decode(np.array([t])) for t in targets) == following


def test_specials_are_read_but_never_predicted() -> None:
    tokens = np.array([[A, N, C, PAD, G, UNK, T, CLS, A, MASK, N]], dtype=np.uint8)
    before = tokens.copy()
    inputs, targets = inputs_and_targets(tokens)
    assert inputs.tolist() == [[A, N, C, PAD, G, UNK, T, CLS, A, MASK]]
    i = IGNORE_INDEX
    assert targets.tolist() == [[i, C, i, G, i, T, i, A, i, i]]
    assert np.array_equal(tokens, before)


def test_the_other_strand(store: GenomeStore) -> None:
    forward, backward = read_windows(store, [Window("a", 40, 90), Window("a", 40, 90, reverse=True)])
    pairs = str.maketrans("ACGT", "TGCA")
    assert decode(backward) == decode(forward)[::-1].translate(pairs)
    assert decode(forward) == decode(store.read("a", 40, 90))


def test_a_failure_in_the_background_reaches_the_reader(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "s"))
    (damaged / "genome.zarr/contigs/a/c/0").unlink()
    with pytest.raises(UserError, match="contigs/a/c/0 is missing"):
        run(GenomeStore.open(damaged), config())
