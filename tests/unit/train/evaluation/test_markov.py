"""Markov chains against a dictionary, and against the figures of the demo corpus."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.shards import ShardOptions, write_shards
from data_prep.splits import BedSplits, BlockSplits
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import decode
from hyena_dist.errors import UserError
from hyena_dist.train.evaluation import markov
from hyena_dist.train.evaluation.markov import MarkovChains
from hyena_dist.train.evaluation.perplexity import markov_perplexity

CORPUS = Path(__file__).parents[4] / "data_prep/corpus/human_chr20_30-35Mb.GRCh37.fa.gz"
# ../shared/data/README.md: trained on the first 90 %, scored on the last 10 %.
PUBLISHED = {0: 3.998, 1: 3.839, 2: 3.803, 3: 3.779, 5: 3.677, 8: 3.429}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("markov")
    draw = np.random.default_rng(0)
    texts = {name: "".join(draw.choice(list("AACGTN"), 400)) for name in "ab"}
    (path / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in texts.items()))
    # Gaps before, between and after the regions.
    (path / "x.bed").write_text("a\t10\t200\ttrain\na\t250\t390\tvalid\nb\t0\t90\tvalid\nb\t90\t400\ttrain\n")
    options = BuildOptions(BedSplits(path / "x.bed"))
    build_store([path / "x.fa"], path / "s", options, say=lambda _: None)
    return path / "s"


@pytest.fixture(scope="module")
def store(folder: Path) -> GenomeStore:
    return GenomeStore.open(folder)


@pytest.fixture(scope="module")
def texts(store: GenomeStore) -> dict[str, str]:
    return {name: decode(store.read(name, 0, 400)) for name in "ab"}


def slow_counts(texts: dict[str, str], regions: list[Interval], order: int, budget: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for contig, start, end in regions:
        for position in range(start, end):
            budget -= 1
            word = texts[contig][position - order : position + 1] if position - order >= start else ""
            if budget >= 0 and len(word) == order + 1 and "N" not in word:
                counts[word] += 1
    return counts


def slow_nll(
    texts: dict[str, str], tables: list[Counter[str]], regions: list[Interval], windows: list[Interval], order: int
) -> tuple[float, int]:
    total, number = 0.0, 0
    for contig, start, end in windows:
        first = max(r.start for r in regions if r.contig == contig and r.start <= start < r.end)
        for position in range(start + 1, end):
            if texts[contig][position] == "N":
                continue
            for shorter in range(order, -1, -1):
                context = texts[contig][max(first, position - shorter) : position]
                if len(context) == shorter and "N" not in context:
                    break
            seen = [tables[shorter][context + base] + 0.5 for base in "ACGT"]
            total -= math.log(seen["ACGT".index(texts[contig][position])] / sum(seen))
            number += 1
    return total, number


@st.composite
def windows_in(draw: st.DrawFn, regions: list[Interval]) -> list[Interval]:
    chosen = []
    for _ in range(draw(st.integers(1, 4))):
        region = draw(st.sampled_from(regions))
        start = draw(st.integers(region.start, region.end - 2))
        chosen.append(Interval(region.contig, start, draw(st.integers(start + 2, region.end))))
    return chosen


@settings(max_examples=60, deadline=None)
@given(data=st.data(), max_order=st.integers(0, 4), budget=st.integers(0, 600), piece=st.integers(1, 100))
def test_equals_a_dictionary(
    store: GenomeStore, texts: dict[str, str], data: st.DataObject, max_order: int, budget: int, piece: int
) -> None:
    train = store.splits["train"]
    regions = [r for split in store.splits.values() for r in split]
    windows = data.draw(windows_in(regions))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "PIECE", piece)
        chains = MarkovChains(max_order).fit(store, train, budget)
    tables = [slow_counts(texts, train, order, budget) for order in range(max_order + 1)]
    for order, (nll, number) in enumerate(chains.nll(store, windows)):
        expected, expected_number = slow_nll(texts, tables, regions, windows, order)
        assert number == expected_number
        assert nll == pytest.approx(expected, rel=1e-12)


def test_the_tar_shards_give_the_same(folder: Path, store: GenomeStore, tmp_path: Path) -> None:
    # Their tars for validation hold its regions only, so that nothing before a region may be asked for.
    write_shards(folder, tmp_path / "shards", ShardOptions(window=50), say=lambda _: None)
    windows = tile(store.splits["valid"], 20, 100)
    shards = GenomeStore.open(tmp_path / "shards")
    assert windows[0].start == 250
    assert markov_perplexity(shards, windows, 5) == markov_perplexity(store, windows, 5)


def test_windows_without_bases_and_windows_outside_the_regions(store: GenomeStore) -> None:
    chains = MarkovChains(2).fit(store, store.splits["train"], 1000)
    assert chains.nll(store, []) == [(0.0, 0)] * 3
    with pytest.raises(UserError, match="the held-out windows hold no A, C, G or T"):
        chains.perplexity(store, [])  # and not 1, as of a perfect model
    assert chains.nll(store, [Interval("a", 0, 9)])[0][1] <= 8


def test_unfitted_chains_are_uniform(store: GenomeStore) -> None:
    windows = tile(store.splits["valid"], 20, 100)
    assert MarkovChains(3).perplexity(store, windows) == pytest.approx(dict.fromkeys(range(4), 4.0))


@pytest.fixture(scope="module")
def human(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    path = tmp_path_factory.mktemp("human") / "s"
    build_store([CORPUS], path, BuildOptions(BlockSplits((0.9, 0.1))), say=lambda _: None)
    return GenomeStore.open(path)


def test_the_demo_corpus(human: GenomeStore) -> None:
    windows = tile(human.splits["valid"], 4096, 10**6)
    found = markov_perplexity(human, windows)
    assert found.keys() == set(range(9))
    assert {order: found[order] for order in PUBLISHED} == pytest.approx(PUBLISHED, abs=0.002)
    assert min(found, key=found.__getitem__) == 8
