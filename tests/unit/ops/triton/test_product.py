"""Products of rows, and their gradients, against autograd through the plain formulas in float64."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import reference
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton import product as kernels
    from hyena_dist.ops.triton.rows import Rows

RELATIVE = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 1e-3}
CASES = [
    ((3, 2, 37, 3), "contiguous", torch.float32),
    ((3, 2, 37, 3), "permuted", torch.bfloat16),
    ((2, 2, 33, 5), "rows of a larger one", torch.bfloat16),
    ((2, 3, 16, 1), "permuted", torch.float16),
    ((1, 2, 2, 4), "contiguous", torch.float32),
    ((1, 1, 1, 3), "contiguous", torch.bfloat16),
]
"""Channels, batch, positions and taps; how the rows lie in memory; and their type."""

test_in_the_interpreter = in_interpreter(__file__)


class Operands:
    """Random tensors on the device, the same ones for the same arguments."""

    def __init__(self, channels: int, batch: int, length: int, taps: int, dtype: torch.dtype, view: str) -> None:
        self.shape, self.taps, self.dtype, self.view = (channels, batch, length), taps, dtype, view
        self._generator = torch.Generator().manual_seed(1000 * length + taps)

    def random(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=self._generator, dtype=torch.float64).to(DEVICE, dtype)

    def rows(self) -> Tensor:
        """Return random rows [c, B, L], laid out as `view` says."""
        c, b, length = self.shape
        if self.view == "rows of a larger one":
            return self.random(c + 2, b + 1, length + 3, dtype=self.dtype)[1:-1, 1:, 2:-1]
        if self.view == "permuted":
            return self.random(length, b, c, dtype=self.dtype).permute(2, 1, 0)
        return self.random(c, b, length, dtype=self.dtype)

    def filtered(self) -> "Rows":
        c = self.shape[0]
        return Rows(self.rows(), self.random(c, self.taps), self.random(c))


def exact(operands: Sequence["Rows"]) -> tuple[list[Tensor], Tensor]:
    """Return the tensors of all operands in float64, as leaves, and the product of the operands."""
    leaves: list[Tensor] = []
    y = torch.ones((), dtype=torch.float64, device=DEVICE)
    for rows in operands:
        mine = [t.double().requires_grad_() for t in rows if t is not None]
        leaves += mine
        y = y * (reference.short_conv(mine[0].transpose(0, 1), *mine[1:]).transpose(0, 1) if mine[1:] else mine[0])
    return leaves, y


def near(found: Tensor, wanted: Tensor, allowed: float) -> None:
    """`found` is near the float64 values in proportion to the largest of them."""
    assert found.shape == wanted.shape
    assert (found.double() - wanted).abs().max() <= allowed * wanted.abs().max().clamp(min=1)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few positions for a program, so that short rows have several."""
        monkeypatch.setattr(kernels, "BLOCK", 16)

    @pytest.mark.parametrize(("shape", "view", "dtype"), CASES)
    @pytest.mark.parametrize("second", ["filtered", "plain", "none"])
    def test_product(self, shape: tuple[int, ...], second: str, view: str, dtype: torch.dtype) -> None:
        o = Operands(*shape, dtype, view)  # type: ignore[arg-type]
        a = o.filtered()
        b = {"filtered": o.filtered, "plain": lambda: Rows(o.rows()), "none": lambda: None}[second]()
        out = torch.full(o.shape, torch.nan, device=DEVICE)
        kernels.product((a, b), out)
        _, wanted = exact([a] if b is None else [a, b])
        near(out, wanted, 1e-6)

    @pytest.mark.parametrize(("shape", "view", "dtype"), CASES)
    @pytest.mark.parametrize("second", ["filtered", "plain"])
    def test_gradients(self, shape: tuple[int, ...], second: str, view: str, dtype: torch.dtype) -> None:
        o = Operands(*shape, dtype, view)  # type: ignore[arg-type]
        channels, taps = o.shape[0], o.taps
        a = o.filtered()
        b = o.filtered() if second == "filtered" else Rows(o.rows())
        dy = o.rows()
        da, db, y = (torch.full_like(dy, torch.nan) for _ in range(3))
        sums = kernels.empty_sums(dy, 2 * channels, taps).fill_(torch.nan)
        of_a, of_b = sums.split(channels, dim=1)
        kernels.product_backward(dy, a, b, da, db, of_a, of_b if second == "filtered" else None, y)
        leaves, wanted_y = exact([a, b])
        wanted = torch.autograd.grad(wanted_y, leaves, dy.double())
        near(y, wanted_y.detach(), RELATIVE[dtype])
        near(da, wanted[0], RELATIVE[dtype])
        near(db, wanted[3], RELATIVE[dtype])
        found = kernels.add_sums(sums[:, : channels * (2 if second == "filtered" else 1)].contiguous(), torch.float32)
        for row, gradients in enumerate([wanted[:3], wanted[3:]][: 2 if second == "filtered" else 1]):
            of_rows, of_taps, of_bias = gradients
            mine = slice(row * channels, (row + 1) * channels)
            for actual, value in zip((t[mine] for t in found), (of_taps, of_bias, of_rows.sum((1, 2))), strict=True):
                near(actual, value, 1e-5)

    def test_nothing_is_written_that_is_not_asked_for(self) -> None:
        o = Operands(2, 2, 37, 3, torch.float32, "contiguous")
        a, b, dy = o.filtered(), Rows(o.rows()), o.rows()
        whole = torch.full((4, 4, 41), 7.0, device=DEVICE)
        inside = whole[1:3, 1:3, 2:39]
        kernels.product((a, b), inside)
        assert (inside != 7).all()
        kernels.product_backward(dy, a, b, inside, None, kernels.empty_sums(dy, 2, 3))
        inside.fill_(7)
        assert (whole == 7).all()

    def test_two_runs_are_equal_to_the_bit(self) -> None:
        o = Operands(3, 3, 37, 3, torch.bfloat16, "contiguous")
        a, b, dy = o.filtered(), o.filtered(), o.rows()

        def run() -> list[Any]:
            da, db = torch.empty_like(dy), torch.empty_like(dy)
            sums = kernels.empty_sums(dy, 6, 3)
            kernels.product_backward(dy, a, b, da, db, sums[:, :3], sums[:, 3:])
            return [da, db, *kernels.add_sums(sums, torch.float32)]

        assert all(map(torch.equal, run(), run()))

    def test_the_real_block_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernels, "BLOCK", 1024)
        self.test_gradients((2, 1, 2051, 3), "filtered", "contiguous", torch.float32)
