"""The sine that the kernels of the implicit filter compute with; tests/unit/ops/gpu/test_filter.py has the filter."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")


if RUNNABLE:
    import triton
    import triton.language as tl

    from hyena_dist.ops.triton.sine_layers import sine

    @triton.jit
    def _sines(x, of_sine, of_cosine, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        at = tl.load(x + i)
        tl.store(of_sine + i, sine(at, 0))
        tl.store(of_cosine + i, sine(at, 1))


test_in_the_interpreter = in_interpreter(__file__)


class TestSine:
    __test__ = RUNNABLE

    def sines(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sine, cosine = torch.empty_like(x), torch.empty_like(x)
        kernel: Any = _sines
        kernel[len(x) // 1024,](x, sine, cosine, BLOCK=1024)
        return sine, cosine

    @pytest.mark.parametrize("largest", [1e-3, 2.0, 100.0, 20_000.0])
    def test_errs_by_a_rounding(self, largest: float) -> None:
        x = torch.linspace(-largest, largest, 2**16, device=DEVICE)
        sine, cosine = self.sines(x)
        assert (sine - x.double().sin()).abs().max() < 3e-7
        assert (cosine - x.double().cos()).abs().max() < 3e-7

    def test_of_no_number_is_none(self) -> None:
        x = torch.full((1024,), float("nan"), device=DEVICE)
        x[::2] = float("inf")
        for found in self.sines(x):
            assert found.isnan().all()

    def test_of_zero_is_zero(self) -> None:
        """A width is padded with zeros, which the sine must leave as they are."""
        assert (self.sines(torch.zeros(1024, device=DEVICE))[0] == 0).all()
