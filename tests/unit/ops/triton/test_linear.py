"""The dense layers' kernels against plain ones in float64: on a GPU if there is one, else in Triton's interpreter."""

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import reference
from hyena_dist.ops.reference.mlp import gelu
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import VALUES, Operands, exactly, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton import linear as kernels

SIZES = [(150, 2, 64, 192), (5, 3, 100, 37), (1, 1, 256, 130), (33, 2, 300, 40)]
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def empty(s: int, b: int, n: int, dtype: torch.dtype, channels_first: bool) -> Tensor:
    """Return a view [S, B, N] of memory within a larger one that holds NaN."""
    shape = (n + 2, b, s) if channels_first else (s + 2, b, n)
    whole = torch.full(shape, torch.nan, dtype=dtype, device=DEVICE)[1:-1]
    return whole.permute(2, 1, 0) if channels_first else whole


test_in_the_interpreter = in_interpreter(__file__)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("channels_first", [False, True])
    @pytest.mark.parametrize("activate", [False, True])
    @pytest.mark.parametrize(("s", "b", "k", "n"), SIZES)
    def test_norm_linear(
        self, s: int, b: int, k: int, n: int, activate: bool, channels_first: bool, dtype: torch.dtype
    ) -> None:
        o = Operands(s)
        x, norm, weight, bias = o.random(s, b, k) + 30, o.norm(k, dtype), o.weight(n, k), o.random(n)
        exact = reference.layer_norm(x.double(), exactly(norm)) @ weight.double().t() + bias.double()
        out = empty(s, b, n, dtype, channels_first)
        assert kernels.norm_linear(x, norm, weight, bias, out, activate) is out
        near(out, gelu(exact) if activate else exact, VALUES[dtype])
        assert out._base is not None
        assert out._base.isnan().sum() == 2 * out._base[0].numel()

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("channels_first", [False, True])
    @pytest.mark.parametrize("around", [False, True])
    @pytest.mark.parametrize(("s", "b", "k", "n"), SIZES)
    def test_linear(
        self, s: int, b: int, k: int, n: int, around: bool, channels_first: bool, dtype: torch.dtype
    ) -> None:
        o = Operands(s)
        a = o.random(k, b, s, dtype=dtype).permute(2, 1, 0) if channels_first else o.random(s, b, k, dtype=dtype)
        weight, bias = o.weight(k, n).t(), o.random(n)
        plus = o.random(s, b, n) if around else None
        exact = a.double() @ weight.double().t() + bias.double() + (0 if plus is None else plus.double())
        out = empty(s, b, n, dtype if plus is None else torch.float32, channels_first)
        assert kernels.linear(a, weight, bias, out, plus) is out
        near(out, exact, VALUES[dtype])

    def test_without_bias_into_the_residual_stream(self) -> None:
        o = Operands(0)
        a, weight, x = o.random(20, 2, 64), o.weight(48, 64), o.random(20, 2, 48)
        exact = a.double() @ weight.double().t() + x.double()
        near(kernels.linear(a, weight, None, x, plus=x), exact, VALUES[torch.float32])
