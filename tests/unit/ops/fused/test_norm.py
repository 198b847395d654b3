"""A norm folded into the layer that follows it against the plain norm and layer, differentiated by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.ops import NormInput, reference
from hyena_dist.ops.fused.norm import fold, moments_of, standardise, standardise_backward, unfold_gradients
from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import EPS, random


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), d=st.integers(4, 8), outputs=st.integers(1, 6), tile=st.integers(1, 25))
def test_fold_and_gradients(rows: int, d: int, outputs: int, tile: int) -> None:
    shapes = [(rows, d), (d,), (d,), (outputs, d), (outputs,), (rows, outputs), (rows, d)]
    x, norm_weight, norm_bias, weight, bias, dy, plus = random(shapes, seed=rows)
    leaves = [t.requires_grad_() for t in (x, norm_weight, norm_bias, weight, bias)]
    norm = NormInput(norm_weight, norm_bias, EPS, torch.float64)
    expected = reference.layer_norm(x, norm) @ weight.t() + bias
    dx, d_norm_weight, d_norm_bias, d_weight, d_bias = torch.autograd.grad(expected, leaves, dy)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        set_sizes(patch, norm=tile * d)
        moments, folded = moments_of(x, norm), fold(norm, weight, bias)
        h = standardise(x, moments, norm)
        found = unfold_gradients(dy.t() @ h, dy.sum(0), norm, weight)
        close = {"rtol": 1e-9, "atol": 1e-9}
        torch.testing.assert_close(h @ folded.weight.t() + folded.bias, expected, **close)
        torch.testing.assert_close(standardise_backward(dy @ folded.weight, x, moments, plus), dx + plus, **close)
    torch.testing.assert_close(tuple(found), (d_weight, d_norm_weight, d_norm_bias), **close)
    torch.testing.assert_close(dy.sum(0), d_bias, **close)
