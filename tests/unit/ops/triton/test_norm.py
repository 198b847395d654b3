"""The norm's kernels against the plain norm in float64: on a GPU if there is one, else in Triton's interpreter."""

import pytest
import torch

from hyena_dist.ops import reference
from tests.interpreter import RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import GRADIENTS, VALUES, Operands, exactly, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton import norm as kernels

SHAPES = [(37, 3, 64), (5, 2, 100), (1, 1, 128), (300, 1, 257)]
TYPES = [torch.float32, torch.bfloat16, torch.float16]


test_in_the_interpreter = in_interpreter(__file__)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize(("s", "b", "d"), SHAPES)
    def test_standardise(self, s: int, b: int, d: int, dtype: torch.dtype) -> None:
        o = Operands(s)
        norm = o.norm(d, dtype)
        x = o.random(b, s, d).transpose(0, 1) + 30  # far from 0: a variance by sums of squares would be wrong
        exact = reference.layer_norm(x.double(), exactly(norm))
        h, cast = kernels.standardise_and_cast(x, norm, x)
        assert h.dtype == dtype
        assert h.is_contiguous()
        near(h, exact, VALUES[dtype])
        assert torch.equal(h, kernels.standardise(x, norm))
        near(cast, x.double(), VALUES[dtype])
        again, cast_again = kernels.standardise_and_cast(x, norm, x.contiguous(), batch_first=True)
        assert again.transpose(0, 1).is_contiguous()
        assert torch.equal(again, h)
        assert torch.equal(cast_again, cast)
        assert cast_again.stride() == again.stride()

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("around", ["nothing", "dy", "dy to be summed"])
    @pytest.mark.parametrize(("s", "b", "d"), SHAPES)
    def test_norm_backward(
        self, s: int, b: int, d: int, around: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kernels, "PROGRAMS", 5)
        o = Operands(s)
        norm = o.norm(d, dtype)
        x, dh = o.random(s, b, d + 3)[..., 1:-2] + 30, o.random(b, s, d, dtype=dtype).transpose(0, 1)
        dy = None if around == "nothing" else o.random(s, b, d)
        found = kernels.norm_backward(dh, x, norm, dy, residual=around == "dy")
        given = [t.double().requires_grad_() for t in (x, norm.weight, norm.bias)]
        h = reference.layer_norm(given[0], exactly(norm)._replace(weight=given[1], bias=given[2]))
        dx, dw, db = torch.autograd.grad(h, given, dh.double())
        dc = torch.zeros_like(db) if dy is None else dy.double().sum((0, 1))
        if around == "dy":
            dx += dy.double()
        for gradient, exact in zip(found, (dx, dw, db, dc), strict=True):
            near(gradient, exact, GRADIENTS[torch.float32])

    def test_gradients_lie_in_memory_as_x_does(self) -> None:
        o = Operands(0)
        norm = o.norm(8, torch.float32)
        for x in (o.random(3, 5, 8).transpose(0, 1), o.random(8, 5, 3).permute(1, 2, 0)):
            found = kernels.norm_backward(x, x, norm).x
            assert found.stride() == x.stride()
            near(found, kernels.norm_backward(x.contiguous(), x.contiguous(), norm).x.double(), 1e-6)

    def test_two_runs_are_equal_to_the_bit(self) -> None:
        o = Operands(0)
        norm, x, dh = o.norm(64, torch.bfloat16), o.random(300, 2, 64), o.random(300, 2, 64)
        for first, second in zip(*(kernels.norm_backward(dh, x, norm, x) for _ in range(2)), strict=True):
            assert torch.equal(first, second)
