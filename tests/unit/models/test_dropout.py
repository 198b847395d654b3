"""Dropped elements belong to a sample and a position, whoever holds them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.models.dropout import Dropout
from hyena_dist.parallel.mesh import Mesh


class Group:
    """A rank of a group, as far as positions go."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def size(self) -> int:
        return self._size

    def rank(self) -> int:
        return self._rank


def on_rank(tensor: tuple[int, int] = (0, 1), context: tuple[int, int] = (0, 1), sequence: bool = False) -> Mesh:
    return replace(Mesh(), tensor=Group(*tensor), context=Group(*context), sequence_parallel=sequence)


@settings(max_examples=20, deadline=None)
@given(chunk=st.integers(1, 1500), context=st.integers(1, 3), tensor=st.integers(1, 3), sequence=st.booleans())
def test_chunks_make_the_whole(chunk: int, context: int, tensor: int, sequence: bool) -> None:
    length = chunk * context * (tensor if sequence else 1)
    x = torch.ones(length, 2, 3)
    whole = Dropout(0.3, 5, Mesh())(x, [7, 8])
    for c in range(context):
        for t in range(tensor):
            mesh = on_rank((t, tensor), (c, context), sequence)
            index, count = mesh.residual_shard
            part = Dropout(0.3, 5, mesh)(x[: length // count], [7, 8])
            assert torch.equal(part, whole.chunk(count)[index])


def test_streams_are_independent() -> None:
    x = torch.ones(2048, 2, 16)
    drop = Dropout(0.5, 1, Mesh())
    one = drop(x, [1, 2])
    assert torch.equal(one, drop(x, [1, 2]))
    assert torch.equal(one[:, 1:], drop(x[:, :1], [2])), "a sample's mask does not depend on its place in the batch"
    others = [one[:, 1], drop(x, [3, 2])[:, 0], Dropout(0.5, 2, Mesh())(x, [1, 2])[:, 0]]
    for other in others:
        assert ((one[:, 0] > 0) == (other > 0)).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert ((one[:1024, 0] > 0) == (one[1024:, 0] > 0)).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_keeps_the_mean(p: float) -> None:
    y = Dropout(p, 0, Mesh())(torch.ones(4096, 1, 16), [3])
    assert sorted(y.unique().tolist()) == pytest.approx([0, 1 / (1 - p)])
    assert y.mean().item() == pytest.approx(1, abs=0.02)


def test_off_in_evaluation_and_without_probability() -> None:
    x = torch.randn(5, 1, 2)
    assert Dropout(0.5, 0, Mesh()).eval()(x, [1]) is x
    assert Dropout(0.0, 0, Mesh())(x, [1]) is x


def test_without_seeds_torch_decides() -> None:
    x = torch.ones(100, 1, 4)
    drop = Dropout(0.5, 0, Mesh())
    torch.manual_seed(0)
    one = drop(x, None)
    assert not torch.equal(one, drop(x, None))
    torch.manual_seed(0)
    assert torch.equal(one, drop(x, None))


def test_a_given_mask_stays_as_it_is() -> None:
    # Runs continue from checkpoints with the same masks: another generator, order or key shows here.
    y = Dropout(0.5, 3, Mesh())(torch.ones(2, 1, 10), [123])
    kept = "".join("x" if value else "." for value in y.flatten().tolist())
    assert kept == ".xx..xxx..xx..x.xxx."


def test_positions_have_their_numbers_from_philox() -> None:
    first, features = 5, 24  # two counters a position
    mesh = on_rank(context=(1, 2))
    y = Dropout(0.3, 9, mesh)(torch.ones(first, 1, features), [77])
    for t in range(first):
        words = np.random.Philox(counter=2 * (first + t), key=[77, 9]).random_raw(8).tolist()
        numbers = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)][:features]
        assert [value > 0 for value in y[t, 0].tolist()] == [number >= round(0.3 * 2**16) for number in numbers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_dropped_alike_and_nothing_is_kept(dtype: torch.dtype) -> None:
    drop = Dropout(0.4, 2, Mesh())
    x = torch.randn(30, 2, 5).to(dtype).requires_grad_()
    residual = torch.randn(30, 2, 5, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        y = drop(x, [3, 4], residual)
    assert y.dtype == residual.dtype
    assert not kept
    dy = torch.randn(30, 2, 5)
    dx, d_residual = torch.autograd.grad(y, (x, residual), dy)
    scale = drop(torch.ones(30, 2, 5), [3, 4])
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(y, residual + x.float() * scale, **tolerance)
    torch.testing.assert_close(dx, (dy * scale).to(dtype), **tolerance)
    assert torch.equal(d_residual, dy)


def test_is_differentiable_twice() -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    drop = Dropout(0.5, 1, Mesh())
    assert torch.autograd.gradgradcheck(lambda x: drop(x, [1, 2], x).pow(2), x)
