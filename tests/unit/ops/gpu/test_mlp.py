"""The MLP from GPU kernels against its plain reference in float64: on a GPU if there is one, else interpreted."""

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import MLPWeights, NormInput, gelu_mlp, reference
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import GRADIENTS, VALUES, Operands, exactly, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.gpu import mlp

SIZES = [(37, 3, 64, False), (150, 1, 100, True), (1, 1, 128, True), (33, 2, 300, True), (5, 2, 300, False)]
TYPES = [torch.float32, torch.bfloat16, torch.float16]


test_in_the_interpreter = in_interpreter(__file__)


def operands(s: int, b: int, d: int, dtype: torch.dtype) -> tuple[Tensor, NormInput, MLPWeights]:
    o = Operands(s)
    weights = MLPWeights(o.weight(4 * d, d), o.random(4 * d), o.weight(d, 4 * d), o.random(d))
    return o.random(s, b, d), o.norm(d, dtype), weights


class TestOperator:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize(("s", "b", "d", "residual"), SIZES)
    def test_equals_the_reference(
        self, s: int, b: int, d: int, residual: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")
        x, norm, weights = operands(s, b, d, dtype)
        assert mlp.takes(mlp.Inputs(x, norm, weights, residual))
        given = [t.requires_grad_() for t in (x, norm.weight, norm.bias, *weights)]
        exact = [t.detach().double().requires_grad_() for t in given]
        y = gelu_mlp(x, norm, weights, residual)
        exact_norm = exactly(norm)._replace(weight=exact[1], bias=exact[2])
        expected = reference.gelu_mlp(exact[0], exact_norm, MLPWeights(*exact[3:]), residual)
        assert y.dtype == (x.dtype if residual else dtype)
        near(y, expected, VALUES[dtype])
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, y.dtype)
        found, wanted = torch.autograd.grad(y, given, dy), torch.autograd.grad(expected, exact, dy.double())
        for gradient, value in zip(found, wanted, strict=True):
            assert gradient.dtype == torch.float32
            near(gradient, value, GRADIENTS[dtype])

    def test_takes_what_the_kernels_can_do(self) -> None:
        x, norm, weights = operands(3, 2, 64, torch.bfloat16)
        inputs = mlp.Inputs(x, norm, weights, True)
        assert mlp.takes(inputs)
        assert not mlp.takes(inputs._replace(x=x.double()))
        assert not mlp.takes(inputs._replace(norm=norm._replace(dtype=torch.float64)))
        assert not mlp.takes(inputs._replace(x=torch.empty(1, 1, 8192, device="meta")))
