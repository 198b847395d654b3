"""The narrow MLP's kernels against the plain MLP in float64: on a GPU if there is one, else interpreted."""

import pytest
import torch

from hyena_dist.ops import MLPWeights, reference
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import GRADIENTS, VALUES, Operands, exactly, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton import mlp as kernels

TYPES = [torch.bfloat16, torch.float16]


test_in_the_interpreter = in_interpreter(__file__)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("stream", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("residual", [False, True])
    @pytest.mark.parametrize(("m", "d", "hidden"), [(1, 64, 256), (150, 100, 130), (300, 128, 37)])
    def test_both_passes(
        self, m: int, d: int, hidden: int, residual: bool, stream: torch.dtype, dtype: torch.dtype
    ) -> None:
        o = Operands(m)
        x, norm, dy = o.random(m, d + 3, dtype=stream)[:, 1:-2], o.norm(d, dtype), o.random(d, m, dtype=stream).t()
        weights = MLPWeights(o.weight(hidden, d), o.random(hidden), o.weight(d, hidden), o.random(d))
        y = torch.empty(m, d, device=DEVICE)
        kernels.mlp(x, norm, weights, residual, y)
        found = kernels.mlp_backward(dy, x, norm, weights, residual)

        given = [t.double().requires_grad_() for t in (x, norm.weight, norm.bias, *weights)]
        exact_norm, exact_weights = exactly(norm)._replace(weight=given[1], bias=given[2]), MLPWeights(*given[3:])
        expected = reference.gelu_mlp(given[0], exact_norm, exact_weights, residual)
        near(y, expected, VALUES[torch.bfloat16])
        dx, d_weight, d_bias, d_fc1, d_c1, d_fc2, d_c2 = torch.autograd.grad(expected, given, dy.double())
        assert found.x.dtype == stream
        products = found.before.double().t() @ found.h.double(), found.dy.double().t() @ found.hidden.double()
        near(products[0], d_fc1, GRADIENTS[torch.bfloat16])
        near(products[1], d_fc2, GRADIENTS[torch.bfloat16])
        for gradient, exact in zip(found[:5], (dx, d_weight, d_bias, d_c1, d_c2), strict=True):
            near(gradient, exact, GRADIENTS[torch.bfloat16])
