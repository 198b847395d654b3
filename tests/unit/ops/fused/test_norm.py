"""A norm folded into the layer that follows it against the plain norm and layer, differentiated by autograd."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.ops import NormInput, reference
from hyena_dist.ops.fused.norm import fold, standardise, standardise_backward, unfold_gradients
from tests.unit.ops.fused.cases import EPS, random


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), d=st.integers(4, 8), outputs=st.integers(1, 6))
def test_fold_and_gradients(rows: int, d: int, outputs: int) -> None:
    shapes = [(rows, d), (d,), (d,), (outputs, d), (outputs,), (rows, outputs), (rows, d)]
    x, norm_weight, norm_bias, weight, bias, dy, plus = random(shapes, seed=rows)
    leaves = [t.requires_grad_() for t in (x, norm_weight, norm_bias, weight, bias)]
    norm = NormInput(norm_weight, norm_bias, EPS, torch.float64)
    expected = reference.layer_norm(x, norm) @ weight.t() + bias
    dx, d_norm_weight, d_norm_bias, d_weight, d_bias = torch.autograd.grad(expected, leaves, dy)
    with torch.no_grad():
        folded = fold(norm, weight, bias)
        h, moments = standardise(x, norm)
        found = unfold_gradients(dy.t() @ h, dy.sum(0), norm, weight)
        close = {"rtol": 1e-9, "atol": 1e-9}
        torch.testing.assert_close(h @ folded.weight.t() + folded.bias, expected, **close)
        for added in (None, plus):
            found_dx = dy @ folded.weight
            standardise_backward(found_dx, x, moments, found_dx, added)
            torch.testing.assert_close(found_dx, dx if added is None else dx + added, **close)
    torch.testing.assert_close(tuple(found), (d_weight, d_norm_weight, d_norm_bias), **close)
    torch.testing.assert_close(dy.sum(0), d_bias, **close)
