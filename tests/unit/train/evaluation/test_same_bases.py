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
from hyena_dist.train.evaluation.held_out import evaluate
from hyena_dist.train.evaluation.same_bases import block_sums, target_blocks
from hyena_dist.train.evaluation.scores import summarize

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
    sums = block_sums(model, store, blocks, length, Mesh(), micro_batch_tokens=micro_batch_tokens)
    found = summarize(model, [block for block, _ in blocks], sums[:, 0])
    expected = one_by_one(model, store, length, 32)
    assert found.tokens == len(expected) == 699 - 40 + 89 + 32
    assert found.loss == pytest.approx(math.fsum(expected.values()) / len(expected), rel=1e-6)


def test_more_context_is_told_from_other_bases(model: HyenaDNA, store: GenomeStore) -> None:
    lines: list[str] = []
    same, apart = (
        evaluate(
            model, store, lengths=LENGTHS, max_tokens=10**6, micro_batch_tokens=4096, note=lines.append,
            same_bases=same, last=[5],
        )
        for same in (True, False)
    )  # fmt: skip
    assert {r.whole.tokens for r in same.by_length.values()} == {780}
    assert len({r.whole.loss for r in same.by_length.values()}) == 3
    # The last bases of windows are the same at every length too: those of the blocks.
    assert len({r.last[5].tokens for r in same.by_length.values()}) == 1
    assert [r.whole.tokens for r in apart.by_length.values()] == [21 * 32 - 40 + 2 * 32 + 32, 600 - 40, 512 - 40]
    assert (
        "scored on 820 of 823 bases (99.6 %) on 3 of 3 contigs; not scored: 40 N, 3 at borders of regions" in lines[0]
    )
    assert "on 512 of 823 bases (62.2 %) on 1 of 3 contigs; without: b, c; not scored: 40 N, " in lines[5]


def test_what_context_buys_is_measured_block_by_block(model: HyenaDNA, store: GenomeStore) -> None:
    found = evaluate(model, store, lengths=LENGTHS, max_tokens=10**6, same_bases=True, last=[5, 32]).by_length
    assert found[32].gain is None
    for length in LENGTHS[1:]:
        gain = found[length].gain
        assert gain is not None
        assert gain.keys() == {"all", "5", "32"}
        assert gain["all"].ppl == pytest.approx(found[length].whole.ppl / found[32].whole.ppl, rel=1e-9)
        assert gain["5"].ppl == pytest.approx(found[length].last[5].ppl / found[32].last[5].ppl, rel=1e-9)
        assert gain["32"] == gain["all"], "a block is the last 32 bases of its window"
        # Bases differ much from block to block, and what context does to them little: so lengths compare in pairs.
        assert gain["all"].high - gain["all"].low < (found[length].whole.high - found[length].whole.low) / 2


def test_blocks_hold_every_base_but_a_regions_first(store: GenomeStore) -> None:
    regions = store.splits["valid"]
    places = [(b.contig, p) for b, _ in target_blocks(regions, 50, 10**6) for p in range(b.start + 1, b.end)]
    assert places == [(r.contig, p) for r in regions for p in range(r.start + 1, r.end)]
    few = target_blocks(regions, 50, 150)
    assert len(few) == 3
    assert (few[0][0].start, few[-1][0].contig) == (200, "c")
