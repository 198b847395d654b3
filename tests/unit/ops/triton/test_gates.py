"""The GPU kernels against the plain functions in float64: on a GPU if there is one, else in Triton's interpreter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops.conv import gates
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

BLOCK = 16
RELATIVE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}

if RUNNABLE:
    from hyena_dist.ops.triton import gates as triton_gates

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from((1, 2, 3, 4, 13, 15, 16, 17, 32, 37)))
views = st.sampled_from(("contiguous", "rows of a larger one", "expanded", "permuted", "every second"))
cases = {"shape": shapes, "taps": st.integers(1, 5), "dtype": st.sampled_from(list(RELATIVE)), "view": views}


test_in_the_interpreter = in_interpreter(__file__)


def every_case(function: Callable[..., None]) -> Any:
    """Draws of `cases`, and one that has many of their features."""
    hard = example(shape=(3, 2, 37), taps=4, dtype=torch.bfloat16, view="permuted")
    short = example(shape=(2, 3, 2), taps=3, dtype=torch.float32, view="rows of a larger one")
    return settings(max_examples=25, deadline=None, derandomize=True)(given(**cases)(hard(short(function))))


class Operands:
    """Random tensors on the device, the same ones for the same arguments."""

    def __init__(self, shape: tuple[int, int, int], taps: int, dtype: torch.dtype, view: str) -> None:
        self.shape, self.taps, self.dtype, self.view = shape, taps, dtype, view
        self._generator = torch.Generator().manual_seed(1000 * shape[2] + taps)

    @property
    def work(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def random(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(*shape, generator=self._generator, dtype=torch.float64).to(DEVICE, dtype)

    def rows(self, dtype: torch.dtype | None = None, writable: bool = False) -> Tensor:
        """Return random rows [c, B, L], laid out as `view` says."""
        (c, b, length), dtype = self.shape, dtype or self.dtype
        if self.view == "rows of a larger one":
            return self.random(c + 2, b + 1, length + 3, dtype=dtype)[1:-1, 1:, 2:-1]
        if self.view == "expanded" and not writable:
            return self.random(c, 1, length, dtype=dtype).expand(self.shape)
        if self.view == "permuted":
            return self.random(b, c, length, dtype=dtype).transpose(0, 1)
        if self.view == "every second":
            return self.random(length, b, 2 * c, dtype=dtype)[..., ::2].permute(2, 1, 0)
        return self.random(c, b, length, dtype=dtype)

    def filter(self) -> tuple[Tensor, Tensor]:
        c = self.shape[0]
        return self.random(c, self.taps, dtype=self.dtype), self.random(c, dtype=self.dtype)


def doubles(*tensors: Tensor) -> list[Tensor]:
    """Return each tensor in float64; one that already is stays itself, so that a function can write into it."""
    return [t.double() for t in tensors]


def agree(found: Tensor, exact: Tensor, dtype: torch.dtype, relative: float | None = None) -> None:
    """`found` has the type and shape, and is near the float64 values in proportion to the largest of them."""
    assert found.dtype == dtype
    assert found.shape == exact.shape
    allowed = RELATIVE[dtype] if relative is None else relative
    assert (found.double() - exact).abs().max() <= allowed * exact.abs().max().clamp(min=1)


def sums_agree(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    agree(found, exact, dtype, 1e-5 if dtype == torch.float32 else None)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def small_blocks(cls) -> Any:
        """Few positions for a program, so that short rows have several: the interpreter is slow."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(triton_gates, "BLOCK", BLOCK)
            yield

    @every_case
    def test_short_filter(self, **case: Any) -> None:
        o = Operands(**case)
        x, (weight, bias) = o.rows(), o.filter()
        exact = gates.short_filter(*doubles(x, weight, bias))
        agree(triton_gates.short_filter(x, weight, bias), exact, o.work)

    @every_case
    def test_gate(self, **case: Any) -> None:
        o = Operands(**case)
        x, (weight, bias), m = o.rows(), o.filter(), o.rows(o.work)
        exact = gates.gate(*doubles(x, weight, bias, m))
        agree(triton_gates.gate(x, weight, bias, m), exact, o.work)
        out = o.rows(writable=True)
        assert triton_gates.gate(x, weight, bias, m, out) is out
        agree(out, exact, o.dtype)

    @every_case
    def test_gate_pair(self, **case: Any) -> None:
        o = Operands(**case)
        x, (weight, bias), x2, (weight2, bias2) = o.rows(), o.filter(), o.rows(), o.filter()
        operands = x, weight, bias, x2, weight2, bias2
        agree(triton_gates.gate_pair(*operands), gates.gate_pair(*doubles(*operands)), o.work)

    @every_case
    def test_short_filter_backward(self, **case: Any) -> None:
        o = Operands(**case)
        dy, x, (weight, _) = o.rows(o.work), o.rows(), o.filter()
        dx, exact_dx = o.rows(writable=True), torch.empty(o.shape, dtype=torch.float64, device=DEVICE)
        found = triton_gates.short_filter_backward(dy, x, weight, dx)
        exact = gates.short_filter_backward(*doubles(dy, x, weight, exact_dx))
        agree(dx, exact_dx, o.dtype)
        for sums, exact_sums in zip(found, exact, strict=True):
            sums_agree(sums, exact_sums, o.work)

    @every_case
    def test_gate_backward(self, **case: Any) -> None:
        o = Operands(**case)
        dy, x, (weight, bias), m = o.rows(), o.rows(), o.filter(), o.rows(o.work)
        dx, exact_dx = o.rows(writable=True), torch.empty(o.shape, dtype=torch.float64, device=DEVICE)
        d_m, *found = triton_gates.gate_backward(dy, x, weight, bias, m, dx)
        exact_d_m, *exact = gates.gate_backward(*doubles(dy, x, weight, bias, m, exact_dx))
        agree(dx, exact_dx, o.dtype)
        agree(d_m, exact_d_m, o.work)
        for sums, exact_sums in zip(found, exact, strict=True):
            sums_agree(sums, exact_sums, o.work)

    def test_views_are_written_within_their_bounds(self) -> None:
        o = Operands((2, 2, 37), 3, torch.float32, "contiguous")
        x, (weight, bias), m = o.rows(), o.filter(), o.rows()
        whole = torch.full((4, 4, 41), 7.0, device=DEVICE)
        inside = whole[1:3, 1:3, 2:39]
        triton_gates.gate(x, weight, bias, m, inside)
        assert (inside != 7).all()
        triton_gates.gate_backward(m, x, weight, bias, m, inside)
        inside.fill_(7)
        assert (whole == 7).all()

    def test_out_may_be_the_factor(self) -> None:
        o = Operands((2, 2, 37), 3, torch.float32, "contiguous")
        x, (weight, bias), m = o.rows(), o.filter(), o.rows()
        fresh = triton_gates.gate(x, weight, bias, m)
        assert torch.equal(triton_gates.gate(x, weight, bias, m, m), fresh)

    def test_two_runs_are_equal_to_the_bit(self) -> None:
        o = Operands((3, 3, 37), 3, torch.bfloat16, "contiguous")
        dy, x, (weight, bias), m = o.rows(), o.rows(), o.filter(), o.rows(o.work)
        dx = [torch.empty_like(x) for _ in range(2)]
        first, second = (triton_gates.gate_backward(dy, x, weight, bias, m, d) for d in dx)
        for a, b in zip((*first, dx[0]), (*second, dx[1]), strict=True):
            assert torch.equal(a, b)

    def test_the_real_block_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_gates, "BLOCK", 2048)
        o = Operands((2, 1, 4099), 3, torch.float32, "contiguous")
        dy, x, (weight, bias), m = o.rows(), o.rows(), o.filter(), o.rows()
        dx, exact_dx = torch.empty_like(x), torch.empty(o.shape, dtype=torch.float64, device=DEVICE)
        found = triton_gates.gate_backward(dy, x, weight, bias, m, dx)
        exact = gates.gate_backward(*doubles(dy, x, weight, bias, m, exact_dx))
        for a, b in zip((*found, dx), (*exact, exact_dx), strict=True):
            sums_agree(a, b, torch.float32)
