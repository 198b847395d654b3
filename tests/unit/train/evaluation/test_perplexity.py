"""Held-out perplexity of models whose answer is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import A
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.evaluation.perplexity import check_targets, evaluation_windows, perplexity
from hyena_dist.train.evaluation.scores import Perplexity, estimate

SHARES = np.array([0.5, 0.25, 0.125, 0.125])
"""Shares of A, C, G and T in the genome."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    path = tmp_path_factory.mktemp("evaluate")
    draw = np.random.default_rng(0)
    text = np.array(list("ACGT"))[draw.choice(4, 20_000, p=SHARES)]
    text[18_100:18_300] = "N"
    (path / "x.fa").write_text(">a\n" + "".join(text) + "\n")
    build_store([path / "x.fa"], path / "s", BuildOptions(BlockSplits((0.8, 0.2))), say=lambda _: None)
    return GenomeStore.open(path / "s")


def unigram(log_shares: np.ndarray | None) -> HyenaDNA:
    """A model that ignores its input; uniform over 12 tokens, or these shares for A, C, G, T and nothing else."""
    model = HyenaDNA(ModelConfig(d_model=8, l_max=512, embed_dropout=0.5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        if log_shares is not None:
            model.backbone.ln_f.bias[0] = 1.0
            model.backbone.embeddings.word_embeddings.weight[:, 0] = -1e4
            model.backbone.embeddings.word_embeddings.weight[A : A + 4, 0] = torch.from_numpy(log_shares).float()
    return model


def score(model: HyenaDNA, store: GenomeStore, windows: list[Interval], micro_batch_tokens: int = 1000) -> Perplexity:
    return perplexity(model, store, windows, Mesh(), micro_batch_tokens=micro_batch_tokens)


def bases_in(store: GenomeStore, windows: list[Interval]) -> np.ndarray:
    tokens = np.concatenate([store.read("a", w.start + 1, w.end) for w in windows]).astype(int) - A
    return tokens[tokens < 4]


def test_zero_weights_are_uniform_over_the_vocabulary(store: GenomeStore) -> None:
    windows = tile(store.splits["valid"], 100, 10**6)
    found = score(unigram(None), store, windows)
    assert found.ppl == pytest.approx(12, rel=1e-6)
    assert found.low == pytest.approx(12, rel=1e-5)
    assert found.tokens == bases_in(store, windows).size == 3900 - 200


@pytest.mark.parametrize("micro_batch_tokens", [1, 250, 10**6])
def test_a_known_answer_in_any_batches(store: GenomeStore, micro_batch_tokens: int) -> None:
    windows = tile(store.splits["valid"], 100, 10**6)
    seen = []
    model = unigram(np.log(SHARES)).train()
    found = perplexity(
        model, store, windows, Mesh(), micro_batch_tokens=micro_batch_tokens, report=lambda *x: seen.append(x)
    )
    expected = -np.log(SHARES)[bases_in(store, windows)].mean()
    assert found.loss == pytest.approx(expected, rel=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.ppl < found.high
    # The entropy of the genome's shares is 1.75 bits.
    assert found.low < 2**1.75 < found.high
    assert model.training, "left as it came"
    assert seen[-1] == (39, 39)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_random_model_equals_its_own_loss(store: GenomeStore) -> None:
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(d_model=8, l_max=512)).eval()
    windows = tile(store.splits["valid"], 256, 10**6)
    tokens = torch.from_numpy(np.stack([store.read("a", w.start, w.end) for w in windows])).long()
    inputs, targets = tokens[:, :-1], tokens[:, 1:].where(tokens[:, 1:] < 11, -100)
    nll = model(inputs, targets).nll_sum
    assert nll is not None
    found = score(model, store, windows)
    assert found.loss == pytest.approx((nll / (targets >= 0).sum()).item(), rel=1e-6)


def test_windows_of_n_alone_do_not_count(store: GenomeStore) -> None:
    some, none = [Interval("a", 17_000, 17_101)], [Interval("a", 18_150, 18_251)]
    model = unigram(np.log(SHARES))
    assert score(model, store, some + none).ppl == pytest.approx(score(model, store, some).ppl)
    assert score(model, store, some + none).low is None, "an interval takes two windows that count"
    with pytest.raises(UserError, match="hold no A, C, G or T"):
        score(model, store, none)
    with pytest.raises(UserError, match="hold no A, C, G or T"):
        check_targets(store, none)  # before a run, not at its first evaluation
    check_targets(store, none + some)


def test_one_window_has_no_interval(store: GenomeStore) -> None:
    found = score(unigram(None), store, [Interval("a", 17_000, 17_101)])
    assert (found.low, found.high) == (None, None)
    assert str(found) == "12.0000 (one window, 100 bases)"
    assert Perplexity.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_is_not_finite_is_no_perplexity(store: GenomeStore) -> None:
    windows = [Interval("a", start, start + 101) for start in (17_000, 17_200)]
    model = unigram(np.log(SHARES))
    with torch.no_grad():
        model.backbone.ln_f.weight[3] = math.nan
    with pytest.raises(UserError, match=r"loss is nan on 2 of 2 held-out windows, first on a:17000-17101: the weight "
                       r"backbone\.ln_f\.weight is not finite; evaluate an earlier checkpoint"):  # fmt: skip
        score(model, store, windows)
    with torch.no_grad():
        model.backbone.ln_f.weight[3] = 1
        model.backbone.ln_f.bias[0] = 3e38  # finite, but not the logits that it gives
    with pytest.raises(UserError, match="windows, first on a:17000-17101: all weights are finite, so activations"):
        score(model, store, windows)


def test_an_enormous_loss_is_still_json() -> None:
    found = estimate(torch.tensor([[8e5, 1000.0], [9e5, 1000.0]], dtype=torch.float64))
    assert math.isfinite(found.ppl)


def test_the_interval_covers() -> None:
    # Windows differ in their mean by a gamma law and in their number of counted bases, as real ones do.
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        counts = draw.integers(200, 1000, 200).astype(float)
        nll = counts * draw.gamma(20, 1.1 / 20, 200)
        found = estimate(torch.from_numpy(np.stack((nll, counts), axis=1)))
        assert found.low is not None
        assert found.high is not None
        covered += found.low < math.exp(1.1) < found.high
        assert found.tokens == counts.sum()
    # 95 % and three standard deviations of 1,000 draws around it.
    assert 0.93 < covered / 1000 < 0.97


def test_windows_are_held_out(store: GenomeStore) -> None:
    windows = evaluation_windows(store, "valid", 100, 1000)
    assert len(windows) == 10
    assert all(w.start >= 16_000 and w.end <= 20_000 for w in windows)
    assert len(evaluation_windows(store, "valid", 3999, 10)) == 1, "at least one window"


def test_what_cannot_be_evaluated(store: GenomeStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no 'test' split; build it with held-out sequence or name another"):
        evaluation_windows(store, "test", 100, 1000)
    with pytest.raises(UserError, match="length 4000 does not fit: the longest 'valid' region has 4000 bases"):
        evaluation_windows(store, "valid", 4000, 1000)
    for length in (0, -3):
        with pytest.raises(UserError, match=f"length {length} is not a context length"):
            evaluation_windows(store, "valid", length, 1000)
