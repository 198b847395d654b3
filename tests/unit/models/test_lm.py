"""The language model: sizes, causality, recomputation, loss."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist import HyenaDNA, ModelConfig, UserError

EXACT_COUNTS = [(2, 128, 436_096), (2, 256, 1_641_088), (4, 128, 869_888), (4, 256, 3_277_568), (8, 256, 6_550_528)]


def small(**fields: object) -> ModelConfig:
    return ModelConfig(**{"d_model": 8, "l_max": 64, "filter_order": 16, "embed_dropout": 0.0} | fields)


def randomized(config: ModelConfig, seed: int = 0) -> HyenaDNA:
    """A model whose every part matters: fresh ones are nearly linear, with filters that are nearly zero past lag 0."""
    torch.manual_seed(seed)
    model = HyenaDNA(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def random_ids(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(7, 11, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n_layer", "d_model", "count"), EXACT_COUNTS)
def test_published_parameter_counts(n_layer: int, d_model: int, count: int) -> None:
    assert HyenaDNA(ModelConfig(n_layer=n_layer, d_model=d_model)).num_parameters() == count


@settings(max_examples=25, deadline=None)
@given(
    n_layer=st.integers(1, 3),
    d_model=st.integers(1, 6),
    d_inner=st.none() | st.integers(1, 9),
    order=st.integers(2, 4),
    short_filter_order=st.integers(1, 4),
    filter_order=st.integers(1, 9),
    num_inner_mlps=st.integers(0, 3),
    emb_dim=st.sampled_from([3, 5, 7]),
    pad_vocab_size_multiple=st.integers(1, 9),
)
def test_the_closed_formula_counts_the_parameters(**fields: int) -> None:
    config = ModelConfig(**fields)
    assert config.num_parameters == HyenaDNA(config).num_parameters()


def gradient_by_position(model: HyenaDNA, ids: Tensor) -> Tensor:
    """Return the largest gradient of the output at row t with respect to the embedding at column s, [L, L]."""
    seen: list[Tensor] = []
    hook = model.backbone.embeddings.word_embeddings.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = model(ids).logits[0]
    hook.remove()
    direction = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(1), dtype=logits.dtype)
    rows = [torch.autograd.grad(row @ direction, seen[0], retain_graph=True)[0] for row in logits]
    return torch.stack([row.abs().amax(dim=(1, 2)) for row in rows])


# 8 has an FFT of exactly 2L - 1 = 15 points, the tightest there is; 16 one of 32; 23 is prime.
@pytest.mark.parametrize("length", [8, 16, 23])
@pytest.mark.parametrize("order", [2, 3])
def test_causality(order: int, length: int) -> None:
    model = randomized(small(order=order)).double()
    gradient = gradient_by_position(model, random_ids(1, length))
    largest = gradient.max()
    # An FFT spreads its rounding over all positions: about eps = 2e-16 of the largest value. Measured over ten seeds of
    # each case: at most 6e-16. 1e-13 leaves room for other FFT libraries, and is far below what any reading of a later
    # base leaves, which is at least what the last line asks of earlier ones (measured: at least 1.7e-4).
    assert gradient.triu(1).max() <= 1e-13 * largest
    # Every output does see its own input and all earlier ones, so a shift by one to either side shows here or above.
    assert gradient[torch.ones(length, length).tril().bool()].min() > 1e-5 * largest


@pytest.mark.parametrize("order", [2, 3])
def test_a_later_base_changes_no_earlier_output(order: int) -> None:
    model = randomized(small(order=order)).double().eval()
    ids = random_ids(1, 40)
    changed = ids.clone()
    changed[0, 25] = 7 if changed[0, 25] == 10 else changed[0, 25] + 1
    with torch.no_grad():
        difference = (model(ids).hidden_states - model(changed).hidden_states).abs().amax(-1)[0]
    assert difference[:25].max() < 1e-12
    assert difference[25:].min() > 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputation_changes_neither_loss_nor_gradients_nor_names(dropout: float) -> None:
    results = []
    for recompute in (False, True):
        model = randomized(small(embed_dropout=dropout, resid_dropout=dropout))
        model.backbone.activation_checkpointing = recompute
        calls: list[int] = []
        model.backbone.layers[0].mixer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        ids = random_ids(2, 31)
        torch.manual_seed(5)
        loss = model(ids[:, :-1], ids[:, 1:]).nll_sum
        assert loss is not None
        loss.backward()
        assert len(calls) == 1 + recompute
        results.append((list(model.state_dict()), loss, [p.grad for p in model.parameters()]))
    (names, loss, gradients), (names_again, loss_again, gradients_again) = results
    assert names == names_again
    assert torch.equal(loss, loss_again)
    for a, b in zip(gradients, gradients_again, strict=True):
        assert torch.equal(a, b)


def test_no_recomputation_in_evaluation() -> None:
    model = randomized(small()).eval()
    ids = random_ids(1, 10)
    expected = model(ids).logits
    model.backbone.activation_checkpointing = True
    assert torch.equal(model(ids).logits, expected)


def test_loss_is_the_sum_over_counted_targets_and_real_tokens() -> None:
    model = randomized(small()).eval()
    ids, targets = random_ids(3, 20), random_ids(3, 20, seed=1)
    targets[1, 4:9] = -100
    out = model(ids, targets)
    log_p = out.logits[..., :12].log_softmax(-1)
    counted = targets >= 0
    expected = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0][counted].sum()
    torch.testing.assert_close(out.nll_sum, expected)
    assert (out.logits.shape, out.hidden_states.shape) == ((3, 20, 16), (3, 20, 8))
    parts = [model(ids[i : i + 1], targets[i : i + 1]).nll_sum for i in range(3)]
    torch.testing.assert_close(sum(parts), out.nll_sum)
    assert model(ids).nll is None
    assert out.nll.shape == targets.shape
    assert not out.nll[targets < 0].any()


def test_padded_vocabulary_takes_no_probability() -> None:
    model = randomized(small()).eval()
    ids, targets = random_ids(1, 20), random_ids(1, 20, seed=1)
    before = model(ids, targets).nll_sum
    weight = model.backbone.embeddings.word_embeddings.weight
    with torch.no_grad():
        weight[12:] = 100 * model(ids).hidden_states[0, :4]  # logits that would win everywhere
    after = model(ids, targets)
    assert (after.logits.argmax(-1) >= 12).any()
    assert torch.equal(after.nll_sum, before)
    after.nll_sum.backward()
    assert weight.grad[12:].abs().max() == 0


def test_ignored_targets_alone_give_zero() -> None:
    out = randomized(small())(random_ids(2, 9), torch.full((2, 9), -100))
    assert out.nll_sum == 0


def test_bf16_stays_near_fp32_and_returns_fp32() -> None:
    config = ModelConfig(d_model=32, l_max=128, embed_dropout=0.0)
    torch.manual_seed(0)
    exact = HyenaDNA(config)
    mixed = HyenaDNA(config, compute_dtype=torch.bfloat16)
    mixed.load_state_dict(exact.state_dict())
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}
    ids = random_ids(2, 100)
    a, b = exact(ids, ids), mixed(ids, ids)
    assert (b.logits.dtype, b.hidden_states.dtype, b.nll_sum.dtype) == (torch.float32,) * 3
    assert not torch.equal(a.logits, b.logits)
    assert (a.logits - b.logits).abs().max() < 0.02 * a.logits.abs().max()
    assert math.isclose(a.nll_sum.item(), b.nll_sum.item(), rel_tol=1e-3)


def test_a_sequence_beyond_l_max_is_refused() -> None:
    # Twice l_max at width 2 would otherwise broadcast to a wrong answer.
    model = HyenaDNA(ModelConfig(d_model=2, l_max=16))
    model(random_ids(1, 16))
    for length in (17, 32):
        with pytest.raises(UserError, match=f"sequence of {length} is longer than the model's l_max 16"):
            model(random_ids(1, length))


ALONE = """
import hyena_dist, psutil, torch
model = hyena_dist.HyenaDNA(hyena_dist.ModelConfig(d_model=8, l_max=32))
loss = model(torch.full((1, 30), 7), torch.full((1, 30), 8)).nll_sum
loss.backward()
assert torch.isfinite(loss)
assert not torch.distributed.is_initialized()
assert psutil.Process().net_connections() == []
"""


def test_needs_no_launcher_no_environment_and_no_port() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
