"""Training windows hold no held-out base, take every unit once an epoch, and keep to shares of species and strands."""

import itertools
import json
import pickle
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import demo_corpus
from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits, BlockSplits
from hyena_dist.config.data import DataConfig
from hyena_dist.data.sampling.train_windows import BLOCK, Sampler, Windows, apportion, training_starts
from hyena_dist.data.sampling.valid_starts import GenomeAxis
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import N
from hyena_dist.errors import UserError

LENGTHS = {"a": 900, "b": 400, "c": 150}
BED = """a 100 160 train
a 170 230 train
a 300 340 valid
a 341 380 train
a 400 520 test
a 700 760 train
b 0 60 train
b 340 400 train
b 200 230 valid
c 0 40 train
c 100 120 train
"""
SAMPLINGS = ("interval", "published", "uniform")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    path = tmp_path_factory.mktemp("sampling")
    draw = np.random.default_rng(0)
    texts = {name: draw.choice(list("ACGT"), size) for name, size in LENGTHS.items()}
    for first, last in ((110, 140), (350, 351), (700, 790)):
        texts["a"][first:last] = "N"
    (path / "x.fa").write_text("".join(f">{name}\n{''.join(text)}\n" for name, text in texts.items()))
    (path / "x.bed").write_text(BED.replace(" ", "\t"))
    build_store([path / "x.fa"], path / "s", BuildOptions(BedSplits(path / "x.bed")), say=lambda _: None)
    np.save(path / "s/index/species.npy", np.array([0, 1, -1], np.int8))  # "human", "mouse", and none
    species = (path / "s/index/species.npy").read_bytes()
    manifest = json.loads((path / "s/manifest.json").read_text())
    manifest["species"] = ["human", "mouse"]
    manifest["files"]["index/species.npy"] = [len(species), sha256(species).hexdigest()]
    (path / "s/manifest.json").write_text(json.dumps(manifest))
    return GenomeStore.open(path / "s")


def settings_of(**fields: Any) -> DataConfig:
    return DataConfig(path="-", **fields)


def draw(
    store: GenomeStore, length: int, count: int, *, seed: int = 0, stage: int = 0, **fields: Any
) -> list[tuple[str, int, bool]]:
    """Return (contig, start, reverse) of the first samples."""
    windows = Sampler(store, length, settings_of(**fields), seed=seed, stage=stage).windows(np.arange(count))
    names = list(store.contigs)
    return [(names[c], s, r) for c, s, r in zip(*(x.tolist() for x in windows), strict=True)]


def held_out(store: GenomeStore) -> dict[str, np.ndarray]:
    mask = {name: np.zeros(length, bool) for name, length in store.contigs.items()}
    for contig, start, end in store.splits["valid"] + store.splits["test"]:
        mask[contig][start:end] = True
    return mask


def all_windows(store: GenomeStore, length: int, **fields: Any) -> set[tuple[str, int]]:
    """Return every window that training can ever read, as (contig, start)."""
    axis = GenomeAxis(store)
    starts = training_starts(store, axis, length, settings_of(**fields)).rows
    names = list(store.contigs)
    at = np.concatenate([np.arange(low, high + 1) for low, high in zip(*starts, strict=True)])
    contig = axis.contig(at)
    return set(zip((names[c] for c in contig), (at - axis.offset[contig]).tolist(), strict=True))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_no_window_of_any_length_holds_a_held_out_base(store: GenomeStore, sampling: str) -> None:
    """All windows are tried, of all lengths up to the longest that fits anywhere."""
    mask = held_out(store)
    longest = max(r.end - r.start for r in store.free)
    assert longest == 380
    for length in range(1, longest):
        windows = all_windows(store, length, sampling=sampling)
        for contig, start in windows:
            assert 0 <= start <= store.contigs[contig] - length - 1
            assert not mask[contig][start : start + length + 1].any(), (length, contig, start)
        if sampling == "uniform":
            everywhere = {
                (contig, start)
                for contig, size in store.contigs.items()
                for start in range(size - length)
                if not mask[contig][start : start + length + 1].any()
            }
            assert windows == everywhere
    with pytest.raises(UserError, match=r"no training window has the 381 bases of seq_length 380: .* has 380; shorten"):
        all_windows(store, longest, sampling=sampling)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_no_leak_at_the_lengths_of_the_paper(tmp_path: Path, sampling: str) -> None:
    """The extreme windows of every interval of 131,072 bases are tried at lengths up to 1 M, in 5 Mb of chr20."""
    kinds = ["train"] * 14 + ["valid"] + ["train"] * 8 + ["test"] + ["train"] * 14
    contig = "chr20_30000001_35000000"
    rows = [f"{contig}\t{i * 131_072}\t{(i + 1) * 131_072}\t{kind}\n" for i, kind in enumerate(kinds)]
    (tmp_path / "x.bed").write_text("".join(rows))
    build_store([demo_corpus()], tmp_path / "s", BuildOptions(BedSplits(tmp_path / "x.bed")), say=lambda _: None)
    store = GenomeStore.open(tmp_path / "s")
    axis = GenomeAxis(store)
    [mask] = held_out(store).values()
    before = np.append(0, np.cumsum(mask))
    for length in (1024, 32_768, 131_071, 131_072, 262_144, 1_048_576):
        starts = training_starts(store, axis, length, settings_of(sampling=sampling)).rows
        for start in starts:  # the first and the last of each interval; a window between holds nothing else
            assert (before[start + length + 1] == before[start]).all()
        assert (before[starts.high + length + 1] == before[starts.low]).all()
        assert starts.low.size > 0


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 150),
    seed=st.integers(0, 2**70),
    stage=st.integers(0, 5),
    sampling=st.sampled_from(SAMPLINGS),
    both=st.booleans(),
    weights=st.none() | st.just({"mouse": 1.0, "human": 2.5}),
    samples=st.lists(st.integers(0, 2**45), min_size=1, max_size=20),
)
def test_a_pure_function_of_the_sample(
    store: GenomeStore,
    length: int,
    seed: int,
    stage: int,
    sampling: Any,
    both: bool,
    weights: dict[str, float] | None,
    samples: list[int],
) -> None:
    data = settings_of(sampling=sampling, reverse_complement=both, species_weights=weights)
    sampler = Sampler(store, length, data, seed=seed, stage=stage)
    together = sampler.windows(np.array(samples))
    assert both or not together.reverse.any()
    possible = all_windows(store, length, sampling=sampling)
    names = list(store.contigs)
    again = pickle.loads(pickle.dumps(Sampler(store, length, data, seed=seed, stage=stage)))
    for i, sample in enumerate(samples):
        alone = again.windows(np.array([[sample]]))
        assert alone.start.shape == alone.reverse.shape == (1, 1)
        assert [x.item() for x in alone] == [x[i].item() for x in together]
        assert (names[together.contig[i]], together.start[i]) in possible


def store_of(folder: Path, contigs: dict[str, str], interval_length: int) -> GenomeStore:
    (folder / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    options = BuildOptions(BlockSplits((1, 0)), interval_length=interval_length)
    build_store([folder / "x.fa"], folder / "s", options, say=lambda _: None)
    return GenomeStore.open(folder / "s")


def test_each_interval_of_one_size_once_an_epoch_at_places_of_its_own(tmp_path: Path) -> None:
    store = store_of(tmp_path, {"a": "ACGT" * 15, "b": "ACGT" * 25}, 20)
    intervals = store.intervals["train"]
    assert len(intervals) == 8
    windows = draw(store, 9, 8 * 400)
    orders = set()
    for first in range(0, len(windows), 8):
        epoch = windows[first : first + 8]
        at = tuple(next(iv for iv in intervals if iv.contig == c and iv.start <= s <= iv.end - 10) for c, s, _ in epoch)
        assert set(at) == set(intervals)
        orders.add(at)
    assert len(orders) > 390
    starts = Counter(s for c, s, _ in windows if c == "b" and s >= 80)  # interval 80-100 and windows of 10
    assert starts.keys() == set(range(80, 91))
    assert all(10 < n < 70 for n in starts.values())  # 400 draws of 11


def test_bases_of_short_contigs_are_read_as_often_as_others(tmp_path: Path) -> None:
    """A fifth of the bases lie in 100 contigs shorter than an interval; they had two thirds of the samples once."""
    contigs = {"long": "ACGT" * 12_000} | {f"short{i}": "ACGT" * 30 for i in range(100)}
    store = store_of(tmp_path, contigs, 1000)
    windows = draw(store, 20, 60 * 1000)
    epochs = [Counter(c == "long" for c, _, _ in windows[first : first + 60]) for first in range(0, len(windows), 60)]
    assert all(epoch[True] == 48 for epoch in epochs)
    assert {c for c, _, _ in windows} == set(contigs)
    short = Counter(c for c, _, _ in windows if c != "long")
    assert min(short.values()) > 80  # 120 expected of each
    assert max(short.values()) < 160


def test_a_window_of_an_intervals_size_has_many_places(tmp_path: Path) -> None:
    """131,072 inputs and a target had two places in an interval of 131,072 bases; half as many inputs had 65,536."""
    store = store_of(tmp_path, {"a": "ACGT" * 5000}, 1000)
    counts = [len(all_windows(store, length, sampling="interval")) for length in (500, 900, 1000, 1100, 2000)]
    assert min(counts) > 20 * 450
    for start in (s for _, s in all_windows(store, 1000, sampling="interval")):
        assert 0 <= start <= 20_000 - 1001


def test_uniform_reads_every_window_once_an_epoch(store: GenomeStore) -> None:
    everything = all_windows(store, 60, sampling="uniform")
    for first in (0, len(everything)):
        samples = first + np.arange(len(everything))
        sampler = Sampler(store, 60, settings_of(sampling="uniform"), seed=3, stage=1)
        assert pairs(sampler.windows(samples), store) == everything


def pairs(windows: Windows, store: GenomeStore) -> set[tuple[str, int]]:
    names = list(store.contigs)
    return {(names[c], s) for c, s in zip(windows.contig.tolist(), windows.start.tolist(), strict=True)}


def test_published_are_the_first_bases_or_both_sides(store: GenomeStore) -> None:
    short = {(contig, start) for contig, start, _ in store.intervals["train"]}
    assert all_windows(store, 19, sampling="published") == short
    # 80 bases: 60-base intervals grow by 10 on each side, and shifted where the contig or a held-out region is near.
    grown = all_windows(store, 79, sampling="published")
    assert {("a", 90), ("a", 160), ("a", 690), ("b", 0), ("b", 320), ("c", 0), ("c", 70)} == grown


def test_shares_of_species_are_exact_in_every_block(store: GenomeStore) -> None:
    weights = {"mouse": 1, "human": 2}
    for sampling in SAMPLINGS:
        windows = draw(store, 20, 3 * BLOCK, species_weights=weights, sampling=sampling)
        for block in range(3):
            contigs = Counter(c for c, _, _ in windows[block * BLOCK : (block + 1) * BLOCK])
            assert contigs == {"a": 683, "b": 341}
        # Within a species, each unit as often as the others, but for the epoch that is under way.
        starts = Counter(s for c, s, _ in windows if c == "b")
        if sampling == "published":
            assert max(starts.values()) - min(starts.values()) <= 1
    order = [c for c, _, _ in draw(store, 20, BLOCK, species_weights=weights)]
    assert order != [c for c, _, _ in draw(store, 20, 2 * BLOCK, species_weights=weights)][BLOCK:]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.integers(1, 2000))
def test_apportion(weights: list[float], total: int) -> None:
    shares = apportion(weights, total)
    assert sum(shares) == total
    for weight, share in zip(weights, shares, strict=True):
        assert abs(share - weight / sum(weights) * total) < 1


def test_strands(store: GenomeStore) -> None:
    one, both = draw(store, 20, 4000), draw(store, 20, 4000, reverse_complement=True)
    assert [w[:2] for w in one] == [w[:2] for w in both]
    assert not any(r for _, _, r in one)
    assert 0.45 < np.mean([r for _, _, r in both]) < 0.55


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_little_n(store: GenomeStore, share: float) -> None:
    """Windows are judged, not intervals: a:100-160 is half N, a:170-230 has none, a:341-380 one, a:700-760 N alone."""
    tokens = {name: store.read(name, 0, size) for name, size in LENGTHS.items()}
    for sampling, length in itertools.product(("published", "interval"), (9, 19, 59)):
        windows = all_windows(store, length, sampling=sampling)
        size = length + 1
        clean = {(c, s) for c, s in windows if (tokens[c][s : s + size] == N).sum() <= int(share * size)}
        assert all_windows(store, length, sampling=sampling, max_n_fraction=share) == clean < windows
        drawn = draw(store, length, 500, sampling=sampling, max_n_fraction=share)
        assert {(c, s) for c, s, _ in drawn} <= clean
    uniform = all_windows(store, 30, sampling="uniform")
    clean = {(c, s) for c, s in uniform if (tokens[c][s : s + 31] == N).sum() <= int(share * 31)}
    assert clean < uniform
    assert all_windows(store, 30, sampling="uniform", max_n_fraction=share) == clean


def test_seeds_and_stages_differ(store: GenomeStore) -> None:
    runs = [tuple(draw(store, 9, 30, seed=seed, stage=stage)) for seed in range(3) for stage in range(3)]
    assert len(set(runs)) == 9


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"species_weights": {"human": 1, "dog": 1}}, "names 'dog', and the store has human, mouse; name species"),
        ({"species_weights": {"human": 1e6, "mouse": 1}}, "gives 'mouse' less than one of 1024 samples; raise its"),
        (
            {"max_n_fraction": 0, "length": 300},
            "all that would fit are more than 0 N: raise data.max_n_fr",
        ),
    ],
)
def test_refusals(store: GenomeStore, fields: dict[str, Any], sentence: str) -> None:
    fields = {"length": 20} | fields
    if fields["length"] == 300:
        fields["sampling"] = "uniform"
    with pytest.raises(UserError, match=sentence):
        draw(store, fields.pop("length"), 1, **fields)


def test_the_windows_of_a_seed_never_change(store: GenomeStore) -> None:
    """Runs that resume, and results that others repeat, rest on these places."""
    found = {
        sampling: draw(store, 20, 6, seed=7, stage=1, sampling=sampling, reverse_complement=True)
        for sampling in SAMPLINGS
    }
    assert found == {
        "interval": [
            ("a", 127, True),
            ("a", 700, True),
            ("b", 356, False),
            ("a", 355, True),
            ("a", 199, True),
            ("c", 94, False),
        ],
        "published": [
            ("a", 100, True),
            ("a", 700, True),
            ("b", 340, False),
            ("a", 341, True),
            ("a", 170, True),
            ("c", 0, False),
        ],
        "uniform": [
            ("a", 522, True),
            ("a", 590, True),
            ("a", 95, False),
            ("a", 860, True),
            ("c", 127, True),
            ("c", 99, False),
        ],
    }


def test_labelled_genomes(tmp_path: Path) -> None:
    """Labelled FASTA files give a store whose species are sampled by their shares."""
    for name, size in (("x", 3000), ("y", 300)):
        (tmp_path / f"{name}.fa").write_text(f">chr1\n{'ACGT' * (size // 4)}\n")
    labelled = [f"human={tmp_path / 'x.fa'}", f"mouse={tmp_path / 'y.fa'}"]
    build_store(labelled, tmp_path / "s", BuildOptions(interval_length=100), say=lambda _: None)
    store = GenomeStore.open(tmp_path / "s")
    assert store.species == ["human", "mouse"]
    by_intervals = Counter(c for c, _, _ in draw(store, 20, 2700 // 100 + 3))
    assert by_intervals == {"human.chr1": 27, "mouse.chr1": 3}
    weighted = Counter(c for c, _, _ in draw(store, 20, BLOCK, species_weights={"mouse": 3, "human": 1}))
    assert weighted == {"human.chr1": 256, "mouse.chr1": 768}
