"""Fourier transforms of zero-padded real sequences as matrix products, for GPUs whose matrix units outrun their FFTs.

The sequence of N points is viewed as a matrix [N1, N2], n = n1 * N2 + n2, and frequency f = k1 + N1 * k2. Then
exp(-2 pi i n f / N) factors into a matrix [N1, N1] from the left, pointwise twiddle factors, and a matrix [N2, N2] from
the right. The spectrum stays in the order [k1, k2], so nothing is ever transposed. A second level that would need too
large a matrix is split in the same way.

Complex tensors are real ones with twice the columns: from the right, one real product [2 N2, 2 N2] does all of the
complex one, sums included, and its result is complex memory already. The adjoint of a transform is its inverse up to
scale, so the inverse runs the same tables transposed and the scale is in its twiddle factors.

Source: Cooley and Tukey 1965; Bailey, FFTs in external or hierarchical memory (1990).
"""

import functools
import math

import torch
from torch import Tensor

from hyena_dist.system.op_sizes import fast_fft_size

LARGEST = 1024
"""About how many rows or columns the largest matrix may have."""


@functools.lru_cache(maxsize=16)
def matmul_transform(
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    product_dtype: torch.dtype = torch.float32,
    largest: int = LARGEST,
) -> "MatmulTransform":
    """Return the transform of such sequences: made once, as its tables take longer to make than to use."""
    return MatmulTransform(length, dtype, device, product_dtype, largest)


class MatmulTransform:
    """A `Transform` (see `hyena_dist.ops.conv.fft`) in matrix products.

    Args:
        length: positions L of a sequence.
        dtype: type of the real sequences, float32 or float64.
        device: where the tables live.
        product_dtype: bfloat16 or float16 rounds the operands of the products to it; sums and everything else stay in
            float32. On a GPU this takes torch 2.8. With float32, a GPU takes TF32 where torch is set to allow it.
        largest: bounds the matrices; a smaller bound means less arithmetic in more passes over memory.
    """

    def __init__(
        self,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        product_dtype: torch.dtype = torch.float32,
        largest: int = LARGEST,
    ) -> None:
        self.length = length
        self.points = 2 * fast_fft_size(length)  # even, so that exactly the second half of the rows is padding
        if product_dtype.itemsize > 2 or dtype == torch.float64:
            product_dtype = dtype
        rows = _first_rows(self.points, largest)
        self.columns = self.points // rows
        self.kept = rows // 2 + 1
        k = torch.arange(self.kept, dtype=torch.float64)[:, None]
        angle = 2 * math.pi / rows * (k * torch.arange(rows // 2) % rows)
        self.table = _Table(torch.cat((angle.cos(), -angle.sin())), dtype, product_dtype, device)
        turn = 2 * math.pi / self.points * (k * torch.arange(self.columns))
        # Rows k1 and N1 - k1 of a real sequence's spectrum are conjugates: one stands for both, except 0 and N1 / 2.
        weight = torch.full_like(k, 2 / self.points)
        weight[[0, -1]] = 1 / self.points
        self.twiddle = torch.polar(torch.ones_like(turn), -turn).to(dtype.to_complex()).to(device)
        self.untwiddle = torch.polar(weight.expand_as(turn).contiguous(), turn).to(dtype.to_complex()).to(device)
        self.second = _complex_dft(self.columns, dtype, product_dtype, device, largest)

    def forward(self, u: Tensor) -> Tensor:
        """Return the spectrum of u [..., L], complex [..., N1 / 2 + 1, N2]."""
        half = self.points // 2
        if self.length < half:
            u = torch.nn.functional.pad(u, (0, half - self.length))
        planes = self.table.left(u.reshape(*u.shape[:-1], -1, self.columns))
        rows = torch.complex(planes[..., : self.kept, :], planes[..., self.kept :, :])
        return self.second.forward(rows.mul_(self.twiddle))

    def inverse(self, u_f: Tensor) -> Tensor:
        """Return the real part [..., L] of the inverse transform of u_f [..., N1 / 2 + 1, N2]."""
        rows = self.second.inverse(u_f).mul_(self.untwiddle)
        planes = torch.cat((rows.real, rows.imag), dim=-2)
        u = self.table.left(planes, transposed=True)
        return u.reshape(*u.shape[:-2], -1)[..., : self.length]


class _Table:
    """A constant real matrix and its products."""

    def __init__(
        self, values: Tensor, dtype: torch.dtype, product_dtype: torch.dtype, device: torch.device | None
    ) -> None:
        self.dtype = dtype
        self.values = values.to(product_dtype).to(device)
        if self.values.device.type == "cpu":
            # A CPU would round the results to 16 bit as well: here rounded operands meet in a float32 product.
            self.values = self.values.to(dtype)
        self.product_dtype = product_dtype

    def left(self, x: Tensor, transposed: bool = False) -> Tensor:
        """Return the product values @ x, with x [..., q, n]."""
        table = self.values.t() if transposed else self.values
        batch = x[..., 0, 0].numel()
        y = self._product(table.expand(batch, *table.shape), x.reshape(batch, *x.shape[-2:]), scaled=1)
        return y.view(*x.shape[:-2], *y.shape[1:])

    def right(self, x: Tensor, transposed: bool = False) -> Tensor:
        """Return the product x @ values, with x [..., rows, q]."""
        table = self.values.t() if transposed else self.values
        y = self._product(x.reshape(1, -1, x.shape[-1]), table[None], scaled=0)
        return y.view(*x.shape[:-1], -1)

    def _product(self, a: Tensor, b: Tensor, scaled: int) -> Tensor:
        """Return torch.bmm(a, b), where operand number `scaled` is the data and the other one the table."""
        if self.product_dtype == self.dtype:
            return torch.bmm(a, b)
        data = (a, b)[scaled]
        scale = None
        if self.product_dtype == torch.float16:
            # Gradients are too small and spectra too large for 16 bit: each row (or matrix) comes with a scale.
            scale = data.abs().amax(-1 if scaled == 0 else (-2, -1), keepdim=True).clamp_(min=1e-30)
            data = data / scale
        data = data.to(self.product_dtype)
        if data.device.type == "cpu":
            data = data.to(self.dtype)
            y = torch.bmm(*((data, b) if scaled == 0 else (a, data)))
        else:
            y = torch.bmm(*((data, b) if scaled == 0 else (a, data)), out_dtype=self.dtype)
        return y if scale is None else y.mul_(scale)


class _Dense:
    """The complex transform of the last dimension, [..., n], in one product."""

    def __init__(self, n: int, dtype: torch.dtype, product_dtype: torch.dtype, device: torch.device) -> None:
        angle = _angles(n)
        # (re + i im) (cos - i sin): rows are the input's re and im, columns the output's, alternating in both.
        cell = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).view(n, n, 2, 2)
        self.table = _Table(cell.transpose(1, 2).reshape(2 * n, 2 * n), dtype, product_dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        return self._apply(x, transposed=False)

    def inverse(self, x: Tensor) -> Tensor:
        """Return the inverse transform times n."""
        return self._apply(x, transposed=True)

    def _apply(self, x: Tensor, transposed: bool) -> Tensor:
        y = self.table.right(torch.view_as_real(x.resolve_conj()).flatten(-2), transposed)
        return torch.view_as_complex(y.unflatten(-1, (-1, 2)))


class _Split:
    """The complex transform of a large n = a * b: a product across rows [a, b], twiddle factors, and transforms."""

    def __init__(
        self, n: int, dtype: torch.dtype, product_dtype: torch.dtype, device: torch.device, largest: int
    ) -> None:
        self.a = _divisor(n, math.isqrt(n), largest // 2)
        self.rest = _complex_dft(n // self.a, dtype, product_dtype, device, largest)
        angle = _angles(self.a)
        self.table = _Table(torch.cat((angle.cos(), angle.sin())), dtype, product_dtype, device)
        turn = 2 * math.pi / n * (torch.arange(self.a, dtype=torch.float64)[:, None] * torch.arange(n // self.a))
        self.twiddle = torch.polar(torch.ones_like(turn), -turn).to(dtype.to_complex()).to(device)
        self.untwiddle = self.twiddle.conj().resolve_conj()

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self._left(x.unflatten(-1, (self.a, -1)))
        return self.rest.forward(torch.add(cos, sin, alpha=-1j).mul_(self.twiddle)).flatten(-2)

    def inverse(self, x: Tensor) -> Tensor:
        """Return the inverse transform times n."""
        cos, sin = self._left(self.rest.inverse(x.unflatten(-1, (self.a, -1))).mul_(self.untwiddle))
        return torch.add(cos, sin, alpha=1j).flatten(-2)

    def _left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products of the cosines and of the sines with x [..., a, b]."""
        y = self.table.left(torch.view_as_real(x).flatten(-2)).unflatten(-1, (-1, 2))
        cos, sin = torch.view_as_complex(y).split(self.a, dim=-2)
        return cos, sin


def _complex_dft(
    n: int, dtype: torch.dtype, product_dtype: torch.dtype, device: torch.device, largest: int
) -> "_Dense | _Split":
    if 2 * n <= largest or _divisor(n, math.isqrt(n), largest // 2) == 1:
        return _Dense(n, dtype, product_dtype, device)
    return _Split(n, dtype, product_dtype, device, largest)


def _angles(n: int) -> Tensor:
    """Return the angles 2 pi j k / n, [n, n], reduced while still integers: exact to the last bit for any n."""
    k = torch.arange(n)
    return 2 * math.pi / n * (k[:, None] * k % n).double()


def _first_rows(points: int, largest: int) -> int:
    """Return N1: per point the first product costs N1 and the second 4 N2, least at N1 = 2 sqrt(N)."""
    return 2 * _divisor(points // 2, math.isqrt(points), largest // 2)


def _divisor(n: int, target: int, most: int) -> int:
    """Return the divisor of n, at most `most`, that is nearest to target as a ratio; 1 if there is none but 1."""
    divisors = (d for d in range(1, min(n, most) + 1) if n % d == 0)
    return min(divisors, key=lambda d: abs(math.log(d / max(target, 1))))
