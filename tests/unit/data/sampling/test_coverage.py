"""The bases and contigs that windows of a length reach are counted one by one."""

import numpy as np
import pytest

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits
from hyena_dist.config.data import DataConfig
from hyena_dist.data.sampling.coverage import Coverage, target_coverage, training_coverage
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.sampling.train_windows import Sampler
from hyena_dist.data.store import GenomeStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    """200 contigs of 300 to 900 bases and one of 20,000, the last tenth of each held out."""
    path = tmp_path_factory.mktemp("coverage")
    draw = np.random.default_rng(0)
    sizes = [*draw.integers(300, 900, 200).tolist(), 20_000]
    fasta, rows = [], []
    for i, size in enumerate(sizes):
        fasta.append(f">c{i}\n{''.join(draw.choice(list('ACGT'), size))}\n")
        border = size - size // 10
        rows.append(f"c{i}\t0\t{border}\ttrain\nc{i}\t{border}\t{size}\tvalid\n")
    (path / "x.fa").write_text("".join(fasta))
    (path / "x.bed").write_text("".join(rows))
    build_store([path / "x.fa"], path / "s", BuildOptions(BedSplits(path / "x.bed")), say=lambda _: None)
    return GenomeStore.open(path / "s")


@pytest.mark.parametrize("sampling", ["interval", "uniform"])
def test_short_contigs_are_told(store: GenomeStore, sampling: str) -> None:
    data = DataConfig.model_validate({"path": "-", "sampling": sampling})
    everything = sum(r.end - r.start for r in store.splits["train"])
    names = ("c0", "c1", "c2")
    found, densest = training_coverage(store, 1023, data)
    assert found == Coverage(18_000, everything, 1, 201, names)
    assert densest == ("c200", pytest.approx(everything / 18_000))
    assert training_coverage(store, 1, data)[0] == Coverage(everything, everything, 201, 201, ())
    text = str(found)
    assert text == (
        f"18,000 of {everything:,} bases ({1800000 / everything:.1f} %) on 1 of 201 contigs; "
        f"without: c0, c1, c2 and 197 more"
    )


def test_the_densest_contig_is_the_one_that_samples_find(store: GenomeStore) -> None:
    for sampling in ("interval", "published"):
        data = DataConfig.model_validate({"path": "-", "sampling": sampling})
        _, densest = training_coverage(store, 99, data)
        sampler = Sampler(store, 99, data, seed=0, stage=0)
        contigs = np.bincount(sampler.windows(np.arange(201_000)).contig, minlength=201)
        bases = np.array([r.end - r.start for r in store.splits["train"]])
        times = contigs / bases * (bases.sum() / contigs.sum())
        at = list(store.contigs).index(densest.contig)
        assert times[at] == pytest.approx(densest.times, rel=0.1)
        if sampling == "interval":  # not by interval, with which the shortest contigs were read most often
            assert densest.times == pytest.approx(1, abs=0.01)
        else:
            assert densest.times > 1.5


def test_held_out_bases_that_are_scored(store: GenomeStore) -> None:
    regions = store.splits["valid"]
    everything = sum(r.end - r.start for r in regions)
    found = target_coverage(store, tile(regions, 512, 10**6), "valid")
    assert found[:4] == (1536, everything, 1, 201)
    found = target_coverage(store, tile(regions, 1, 10**6), "valid")
    assert found == (everything - 201, everything, 201, 201, ())  # a region's first base has nothing before it
