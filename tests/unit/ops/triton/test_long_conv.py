"""The convolution's kernels against the plain operator in float64, on a GPU or else in the interpreter."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hyena_dist.ops.reference.long_conv import long_conv as reference_conv
from hyena_dist.ops.reference.short_conv import short_conv
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.triton import long_conv, long_kernels, short_kernels
    from hyena_dist.ops.triton.rows import Rows

test_in_the_interpreter = in_interpreter(__file__)

FORWARD = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}
GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}


class Case:
    """Random operands of a convolution [C, B, L], strided if asked for, and the exact results for them."""

    def __init__(self, length: int, c: int = 2, b: int = 2, dtype: torch.dtype = torch.float32, strided: bool = False):
        self.shape, self.dtype, self.strided = (c, b, length), dtype, strided
        self._generator = torch.Generator().manual_seed(length)
        self.k = self.random(c, length)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator).to(DEVICE)

    def memory(self) -> Tensor:
        """Return rows to write, of numbers that no result has."""
        c, b, length = self.shape
        whole = torch.full((b, length + 1, 2 * c), 1e4, dtype=self.dtype, device=DEVICE)
        return whole[:, 1:, ::2].permute(2, 0, 1) if self.strided else whole[0].new_full(self.shape, 1e4)

    def rows(self, filtered: bool, taps: int = 3) -> "Rows":
        c = self.shape[0]
        x = self.memory().copy_(self.random(*self.shape))
        return Rows(x, self.random(c, taps), self.random(c)) if filtered else Rows(x)

    def spectrum(self, precision: str | None = None) -> Tensor:
        return long_conv.spectrum(self.k, precision or long_conv.precision_for(self.dtype))


def value(rows: "Rows | None") -> Tensor | float:
    """Return an operand in float64."""
    if rows is None:
        return 1.0
    x = rows.x.double()
    if rows.taps is None:
        return x
    return short_conv(x.transpose(0, 1), rows.taps.double(), rows.bias.double()).transpose(0, 1)


def convolved(u: Tensor, k: Tensor) -> Tensor:
    """Return the exact convolution of u [C, B, L] and k [C, L] in float64."""
    if u.shape[-1] <= 4096:
        return reference_conv(u.transpose(0, 1), k.double()).transpose(0, 1)
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(k.double(), n)[:, None], n)[..., : u.shape[-1]]


def agree(found: Tensor, exact: Tensor, allowed: float) -> None:
    assert (found.double() - exact).abs().max() <= allowed * exact.abs().max()


def check_both_passes(case: Case, u: "tuple[Rows, Rows | None]", d: "tuple[Rows, Rows | None]") -> None:
    """Compare the convolution of u, and the gradients for d, with exact ones."""
    precision, spectrum = long_conv.precision_for(case.dtype), case.spectrum()
    y, du, dk = case.memory(), case.memory(), torch.full_like(case.k, 1e4)
    long_conv.convolve(u, spectrum, y, precision=precision)
    long_conv.convolve_backward(d, u, spectrum, du, dk, precision=precision)
    exact_u = (value(u[0]) * value(u[1])).requires_grad_()
    exact_k = case.k.double().requires_grad_()
    exact = convolved(exact_u, exact_k)
    exact_du, exact_dk = torch.autograd.grad(exact, (exact_u, exact_k), value(d[0]) * value(d[1]))
    agree(y, exact.detach(), FORWARD[case.dtype])
    agree(du, exact_du, GRADIENT[case.dtype])
    agree(dk, exact_dk, 1e-4)


class TestKernels:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("length", [1, 2, 15, 256, 257, 1000, 2048, 4095])
    def test_short_sequences(self, length: int) -> None:
        case = Case(length, c=1)
        check_both_passes(case, (case.rows(True), case.rows(True)), (case.rows(True), case.rows(False)))

    @pytest.mark.parametrize("length", [10_000])
    def test_long_sequences(self, length: int) -> None:
        case = Case(length, c=1)
        check_both_passes(case, (case.rows(True), case.rows(True)), (case.rows(True), case.rows(False)))

    @pytest.mark.parametrize(
        ("kinds", "strided", "dtype"),
        [
            ("plain", True, torch.bfloat16),
            ("gated", False, torch.bfloat16),
            ("gated", True, torch.float32),
            ("pair", True, torch.float16),
            ("pair", False, torch.float32),
        ],
    )
    @pytest.mark.parametrize("long", [False, True])
    def test_operands(self, kinds: str, long: bool, strided: bool, dtype: torch.dtype, small_rows: None) -> None:
        case = Case(300 if long else 150, c=3, b=1 if long else 2, dtype=dtype, strided=strided)
        u = case.rows(kinds != "plain"), None if kinds == "plain" else case.rows(kinds == "pair", taps=2)
        check_both_passes(case, u, (case.rows(False), None))

    @pytest.mark.parametrize("most_rows", [16, 256])
    def test_rows_in_several_blocks(self, most_rows: int, small_rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(long_kernels, "MOST_ROWS", most_rows)
        monkeypatch.setattr(long_kernels, "DEPTH", 16)
        case = Case(19 * 256 - 3, c=1, b=1)
        check_both_passes(case, (case.rows(True), None), (case.rows(False), None))

    @pytest.mark.parametrize("filtered", [False, True])
    @pytest.mark.parametrize("long", [False, True])
    def test_gate_and_what_it_meets(self, long: bool, filtered: bool, small_rows: None) -> None:
        case = Case(300 if long else 150, strided=True)
        u, gate, y, z = case.rows(True), case.rows(filtered), case.memory(), case.memory()
        long_conv.convolve((u, None), case.spectrum(), y, gate=gate, z=z, precision="bf16x6")
        exact = convolved(value(u), case.k)
        agree(z, exact, 1e-5)
        agree(y, value(gate) * exact, 1e-5)

    def test_groups_of_the_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(short_kernels, "PROGRAMS", 4)
        case = Case(37, c=2, b=5)
        check_both_passes(case, (case.rows(False), None), (case.rows(False), None))

    @pytest.mark.parametrize(("precision", "allowed"), [("bf16", 1e-2), ("bf16x3", 2e-5), ("bf16x6", 1e-6)])
    @pytest.mark.parametrize("length", [1000, 4096])
    def test_precisions(self, length: int, precision: str, allowed: float) -> None:
        case = Case(length)
        u, y = case.rows(False), case.memory()
        long_conv.convolve((u, None), case.spectrum(precision), y, precision=precision)
        agree(y, convolved(value(u), case.k), allowed)

    def test_spectra_in_16_bits_of_long_sequences(self, small_rows: None) -> None:
        case = Case(700, b=3)
        u, d, du, dk = case.rows(False), case.rows(False), case.memory(), torch.empty_like(case.k)
        spectrum = case.spectrum("bf16")
        long_conv.convolve_backward((d, None), (u, None), spectrum, du, dk, precision="bf16")
        exact_k = case.k.double().requires_grad_()
        (exact_dk,) = torch.autograd.grad(convolved(value(u), exact_k), exact_k, value(d))
        assert spectrum.dtype == torch.bfloat16
        agree(dk, exact_dk, 2e-2)

    def test_nothing_is_written_beside_the_rows(self) -> None:
        case = Case(37)
        whole = torch.full((4, 4, 41), 7.0, device=DEVICE)
        inside = whole[1:3, 1:3, 2:39]
        long_conv.convolve((case.rows(False), None), case.spectrum(), inside, precision="bf16x6")
        assert (inside != 7).all()
        inside.fill_(7)
        assert (whole == 7).all()

    @pytest.mark.parametrize("length", [150, 300])
    def test_two_runs_are_equal_to_the_bit(self, length: int, small_rows: None) -> None:
        case = Case(length, b=3)
        d, u = case.rows(False), case.rows(True)
        runs = []
        for _ in range(2):
            du, dk = case.memory(), torch.empty_like(case.k)
            long_conv.convolve_backward((d, None), (u, None), case.spectrum(), du, dk, precision="bf16x6")
            runs.append((du, dk))
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))

    def test_a_spectrum_of_another_precision_is_refused(self) -> None:
        case = Case(37)
        with pytest.raises(ValueError, match="bf16 spectra"):
            long_conv.convolve((case.rows(False), None), case.spectrum("bf16x3"), case.memory(), precision="bf16")

    @pytest.fixture
    @staticmethod
    def small_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Rows of 256 points from 257 points on: the interpreter is slow."""
        monkeypatch.setattr(short_kernels, "MOST_POINTS", 256)
        monkeypatch.setattr(long_kernels, "SIDE", 16)
        long_conv._tables.cache_clear()
        yield
        long_conv._tables.cache_clear()
