"""The hidden layer's backward against autograd in float64: on a GPU if there is one, else in Triton's interpreter."""

import pytest
import torch

from hyena_dist.ops import MLPWeights
from hyena_dist.ops.reference.mlp import gelu
from tests.interpreter import RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import GRADIENTS, Operands, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton.hidden import hidden_backward


test_in_the_interpreter = in_interpreter(__file__)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize(("m", "d", "hidden"), [(1, 64, 256), (150, 100, 37), (33, 300, 130)])
    def test_hidden_backward(self, m: int, d: int, hidden: int, dtype: torch.dtype) -> None:
        o = Operands(m)
        h, dy = o.random(m, d, dtype=dtype), o.random(m, d, dtype=dtype)
        weights = MLPWeights(o.weight(hidden, d), o.random(hidden), o.weight(d, hidden), o.random(d))
        found = hidden_backward(h, dy, weights)
        a = (h.double() @ weights.fc1_weight.double().t() + weights.fc1_bias.double()).requires_grad_()
        (da,) = torch.autograd.grad(gelu(a), a, dy.double() @ weights.fc2_weight.double())
        for result, exact in zip(found, (gelu(a).detach(), da, da.sum(0)), strict=True):
            near(result, exact, GRADIENTS[dtype])
        assert (found.value.dtype, found.before.dtype, found.bias.dtype) == (dtype, dtype, torch.float32)
