"""Every length scores the same targets, each with the bases before it that its length allows."""

import math

import numpy as np
import pytest
import torch

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits
from hyena_dist import HyenaDNA, ModelConfig
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import A
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.evaluation.perplexity import evaluate
from hyena_dist.train.evaluation.same_bases import perplexity_at, target_blocks

REGIONS = {"a": (200, 900), "b": (0, 90), "c": (0, 33)}
LENGTHS = [32, 100, 512]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    path = tmp_path_factory.mktemp("same")
    draw = np.random.default_rng(0)
    texts = {name: draw.choice(list("ACGT"), 1000 if name == "a" else end) for name, (_, end) in REGIONS.items()}
    texts["a"][300:340] = "N"
    (path / "x.fa").write_text("".join(f">{name}\n{''.join(text)}\n" for name, text in texts.items()))
    rows = [f"{name}\t{start}\t{end}\tvalid\n" for name, (start, end) in REGIONS.items()]
    (path / "x.bed").write_text("a\t0\t200\ttrain\n" + "".join(rows))
    build_store([path / "x.fa"], path / "s", BuildOptions(BedSplits(path / "x.bed")), say=lambda _: None)
    return GenomeStore.open(path / "s")


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(ModelConfig(d_model=8, l_max=512)).eval()


@torch.no_grad()
def one_by_one(model: HyenaDNA, store: GenomeStore, length: int, shortest: int) -> dict[tuple[str, int], float]:
    """Return the loss of each target by its place, each from a forward pass over its block's context alone."""
    found = {}
    for contig, (start, end) in REGIONS.items():
        for place in range(start + 1, end):
            stop = min(start + shortest * -(-(place - start) // shortest) + 1, end)  # where the target's block ends
            first = max(start, stop - 1 - length)
            tokens = torch.from_numpy(store.read(contig, first, place + 1)).long()
            if A <= tokens[-1] < A + 4:
                logits = model(tokens[None, :-1]).logits[0, -1, :12].double()
                found[contig, place] = -float(torch.log_softmax(logits, 0)[tokens[-1]])
    return found


@pytest.mark.parametrize("micro_batch_tokens", [1, 2000])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_targets_one_by_one(model: HyenaDNA, store: GenomeStore, length: int, micro_batch_tokens: int) -> None:
    blocks = target_blocks(store.splits["valid"], 32, 10**6)
    found = perplexity_at(model, store, blocks, length, Mesh(), micro_batch_tokens=micro_batch_tokens)
    expected = one_by_one(model, store, length, 32)
    assert found.tokens == len(expected) == 699 - 40 + 89 + 32
    assert found.loss == pytest.approx(math.fsum(expected.values()) / len(expected), rel=1e-6)


def test_more_context_is_told_from_other_bases(model: HyenaDNA, store: GenomeStore) -> None:
    lines: list[str] = []
    same, apart = (
        evaluate(
            model, store, Mesh(), split="valid", lengths=LENGTHS, max_tokens=10**6, micro_batch_tokens=4096,
            note=lines.append, same_bases=same,
        )
        for same in (True, False)
    )  # fmt: skip
    assert {p.tokens for p in same.by_length.values()} == {780}
    assert len({p.loss for p in same.by_length.values()}) == 3
    assert [p.tokens for p in apart.by_length.values()] == [21 * 32 - 40 + 2 * 32 + 32, 600 - 40, 512 - 40]
    assert lines[0].endswith("scored on 820 of 823 bases (99.6 %) on 3 of 3 contigs")
    assert lines[5].endswith("scored on 512 of 823 bases (62.2 %) on 1 of 3 contigs; without: b, c")


def test_blocks_hold_every_base_but_a_regions_first(store: GenomeStore) -> None:
    regions = store.splits["valid"]
    places = [(b.contig, p) for b, _ in target_blocks(regions, 50, 10**6) for p in range(b.start + 1, b.end)]
    assert places == [(r.contig, p) for r in regions for p in range(r.start + 1, r.end)]
    few = target_blocks(regions, 50, 150)
    assert len(few) == 3
    assert (few[0][0].start, few[-1][0].contig) == (200, "c")
