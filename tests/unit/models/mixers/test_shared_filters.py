"""Filters evaluated once for all micro-batches of an optimizer step: gradients are those of an evaluation for each."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.filter import HyenaFilter, SharedKernels

LENGTH = 20


def model_of(order: int = 2) -> HyenaDNA:
    torch.manual_seed(0)
    config = ModelConfig(d_model=6, l_max=64, filter_order=8, order=order, embed_dropout=0.0, initializer_range=0.2)
    return HyenaDNA(config).double()


def micro_batches(number: int, length: int = LENGTH) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(number)
    for _ in range(number):
        yield torch.randint(7, 12, (2, length), generator=generator)


def backward(model: HyenaDNA, tokens: Tensor) -> None:
    nll = model(tokens, tokens).nll_sum
    assert nll is not None
    nll.backward()


def gradients(model: HyenaDNA, number: int, length: int, shared: bool) -> dict[str, Tensor]:
    model.zero_grad()
    with model.share_filters(number if shared else 1):
        for tokens in micro_batches(number, length):
            backward(model, tokens)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@contextmanager
def counted(model: HyenaDNA) -> Iterator[list[str]]:
    """Names of the filters as they are evaluated; at this length, once per evaluation."""
    calls: list[str] = []
    hooks = [
        m.pos_emb.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, m in model.named_modules()
        if isinstance(m, HyenaFilter)
    ]
    yield calls
    for hook in hooks:
        hook.remove()


@settings(max_examples=15, deadline=None)
@given(
    order=st.integers(2, 3),
    steps=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 33)), min_size=1, max_size=3),
)
def test_gradients_of_an_evaluation_for_each(order: int, steps: list[tuple[int, int]]) -> None:
    """Steps of other numbers of micro-batches and lengths, one after the other in one model."""
    model = model_of(order)
    for number, length in steps:
        found, expected = (gradients(model, number, length, shared) for shared in (True, False))
        assert len(expected) == len(list(model.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("number", "shared", "expected"), [(1, True, 1), (4, True, 1), (4, False, 4)])
def test_each_filter_is_evaluated_once(number: int, shared: bool, expected: int) -> None:
    model = model_of()
    with counted(model) as calls:
        gradients(model, number, LENGTH, shared)
    assert len(calls) == 2 * expected
    assert len(set(calls)) == 2


def test_recomputed_layers_evaluate_their_own() -> None:
    model = model_of()
    expected = gradients(model, 3, LENGTH, shared=False)
    model.backbone.activation_checkpointing = True
    with counted(model) as calls:
        found = gradients(model, 3, LENGTH, shared=True)
    assert len(calls) == 2 * 3 * 2
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_gradients_come_with_the_last_micro_batch() -> None:
    model = model_of()
    in_filters = [p for name, p in model.named_parameters() if ".filter_fn." in name]
    arrived: list[int] = []
    for i, parameter in enumerate(in_filters):
        parameter.register_post_accumulate_grad_hook(lambda _, i=i: arrived.append(i))
    with model.share_filters(3):
        for index, tokens in enumerate(micro_batches(3)):
            assert not arrived
            backward(model, tokens)
            assert bool(arrived) == (index == 2)
    assert sorted(arrived) == list(range(len(in_filters)))


def test_one_buffer_collects_the_gradients() -> None:
    parameter = torch.randn(1, 3, 5, requires_grad=True)
    shared = SharedKernels(parameter * 2, 4)
    leaf = shared.leaf
    places = []
    for _ in range(3):
        (shared.use(5) * 3).sum().backward()
        assert leaf.grad is not None
        places.append(leaf.grad.data_ptr())
    assert len(set(places)) == 1
    (shared.use(5) * 3).sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad == 4 * 3 * 2).all()


def test_a_step_after_one_that_failed() -> None:
    model = model_of()
    expected = gradients(model, 3, LENGTH, shared=False)
    with suppress(KeyboardInterrupt), model.share_filters(3):
        backward(model, next(micro_batches(1)))
        raise KeyboardInterrupt
    torch.testing.assert_close(gradients(model, 3, LENGTH, shared=False), expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients(model, 3, LENGTH, shared=True), expected, rtol=1e-11, atol=1e-12)


def test_evaluation_in_between_sees_the_parameters() -> None:
    model = model_of()
    filter_fn = model.backbone.layers[0].mixer.filter_fn
    expected = gradients(model, 2, LENGTH, shared=False)
    model.zero_grad()
    with model.share_filters(2):
        for tokens in micro_batches(2):
            backward(model, tokens)
            with torch.no_grad(), counted(model) as calls:
                assert filter_fn(7).shape == (1, 6, 7)
            assert len(calls) == 1
    found = {name: p.grad for name, p in model.named_parameters()}
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    with counted(model) as calls:
        assert filter_fn(7).requires_grad
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("lengths", "message"), [([9] * 3, "more forward"), ([9], "fewer forward"), ([9, 8], "of 9 and of 8 positions")]
)
def test_other_micro_batches_than_announced(lengths: list[int], message: str) -> None:
    model = model_of()

    def step() -> None:
        with model.share_filters(2):
            for length in lengths:
                backward(model, torch.full((1, length), 7))

    with pytest.raises(RuntimeError, match=message):
        step()
    gradients(model, 2, LENGTH, shared=True)  # nothing is left of it
