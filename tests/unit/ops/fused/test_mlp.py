"""The fused MLP against its plain reference in float64, and what it keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import EXACT, MLP, assert_equal, mlp_shapes, random


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(4, 8), hidden=st.integers(1, 20), rows=st.integers(1, 50), tile=st.integers(1, 60),
    residual=st.booleans(), keep=st.booleans(), dtype=st.sampled_from(EXACT),
)  # fmt: skip
def test_equals_the_reference(
    d: int, hidden: int, rows: int, tile: int, residual: bool, keep: bool, dtype: torch.dtype
) -> None:
    if dtype == torch.float32:
        hidden = max(4, hidden)  # where gelu's slope is near zero, a gradient of one hidden unit alone cancels out
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, hidden=tile * hidden, recomputed_from=keep * 2**20)
        assert_equal(MLP, random(mlp_shapes(d, hidden, rows), seed=rows), dtype, residual)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_in_16_bits(seed: int, residual: bool, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is wide enough for a norm; that of a handful of numbers magnifies what rounding does to them."""
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = random(mlp_shapes(48, 192, 130, batch=2), seed)
    for i in (3, 5):
        tensors[i] /= tensors[i].shape[-1] ** 0.5
    assert_equal(MLP, tensors, torch.bfloat16, residual)


@pytest.mark.parametrize(("keep", "expected"), [(False, []), (True, [(5, 8), (5, 8)])])
def test_kept_is_nothing_or_the_activation(
    keep: bool, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = [t.requires_grad_() for t in random(MLP.shapes, seed=0)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        MLP.op(*MLP.arguments(tensors, torch.float64, True))
    inputs = {t.data_ptr() for t in tensors}
    assert [t.shape for t in kept if t.data_ptr() not in inputs] == expected
