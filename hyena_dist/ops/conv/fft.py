"""Fourier transforms of zero-padded real sequences, as causal convolutions need them.

A convolution multiplies spectra point by point, so their order does not matter as long as it is always the same. The
blocked transform makes use of that: it never puts its result into the usual order.
"""

import functools
import math
from typing import Protocol

import torch
from torch import Tensor

from hyena_dist.system.op_sizes import fast_fft_size

BLOCKED_FROM = 2**18
"""Points from which a transform no longer fits a core's cache and goes in two levels."""

ROWS = 32
"""Rows of the first level: its product costs little beside the FFTs of the second, which are as much shorter."""


class Transform(Protocol):
    """Spectra of real sequences of one length L, padded with zeros to at least 2L - 1 points.

    inverse(forward(u) * forward(k)) is the causal convolution of u with k, and inverse(forward(u).conj() * forward(d))
    their causal correlation.
    """

    points: int
    """Real numbers of one padded sequence."""
    shape: tuple[int, ...]
    """The dimensions that a spectrum has in place of L."""

    def forward(self, u: Tensor) -> Tensor:
        """Return the complex spectrum of u [..., L], with the dimensions `shape` in place of L."""
        ...

    def inverse(self, u_f: Tensor) -> Tensor:
        """Return the first L values of a spectrum's sequence, [..., L]; this may overwrite the spectrum."""
        ...


@functools.lru_cache(maxsize=16)
def transform(length: int, dtype: torch.dtype, device: torch.device) -> Transform:
    """Return the transform that is fastest for sequences of `length` on this device."""
    points = fast_fft_size(2 * length - 1)
    if device.type == "cpu" and points >= BLOCKED_FROM:
        return BlockedTransform(length, dtype, device)
    return PlainTransform(length)


class PlainTransform:
    """The real transform of torch.fft."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.points = fast_fft_size(2 * length - 1)
        self.shape: tuple[int, ...] = (self.points // 2 + 1,)

    def forward(self, u: Tensor) -> Tensor:
        """Return the spectrum of u [..., L], complex [..., points // 2 + 1]."""
        return torch.fft.rfft(u, n=self.points)

    def inverse(self, u_f: Tensor) -> Tensor:
        """Return the first L values [..., L] of the sequence of u_f [..., points // 2 + 1]."""
        return torch.fft.irfft(u_f, n=self.points)[..., : self.length]


class BlockedTransform:
    """A transform in two levels: a small matrix across `ROWS` rows, twiddle factors, an FFT along each row.

    With n = i * columns + j and frequency k + ROWS * m, exp(-2 pi i n f / points) factors into the three. Half of the
    rows are padding and are left out of the product; the rows k and ROWS - k of a real sequence's spectrum are
    conjugates, so that ROWS / 2 + 1 of them are computed.

    Source: Cooley and Tukey 1965; Bailey, FFTs in external or hierarchical memory (1990).
    """

    def __init__(self, length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.length = length
        self.points = fast_fft_size(2 * length - 1)
        self.columns = self.points // ROWS
        self.kept = ROWS // 2 + 1
        self.shape: tuple[int, ...] = (self.kept, self.columns)
        k = torch.arange(self.kept, dtype=torch.float64)[:, None]
        angle = 2 * math.pi / ROWS * k * torch.arange(ROWS // 2)
        self.cos_sin = torch.cat((angle.cos(), -angle.sin())).to(dtype).to(device)
        twice = torch.full_like(k, 2 / ROWS)  # a row stands for its conjugate too, the first and the last do not
        twice[[0, -1]] = 1 / ROWS
        self.back = torch.cat((twice * angle.cos(), -twice * angle.sin())).t().contiguous().to(dtype).to(device)
        turn = 2 * math.pi / self.points * k * torch.arange(self.columns)
        self.twiddle = torch.polar(torch.ones_like(turn), -turn).to(dtype.to_complex()).to(device)

    def forward(self, u: Tensor) -> Tensor:
        """Return the spectrum of u [..., L], complex [..., ROWS / 2 + 1, columns]."""
        half = self.points // 2
        if self.length < half:
            u = torch.nn.functional.pad(u, (0, half - self.length))
        planes = torch.matmul(self.cos_sin, u.reshape(*u.shape[:-1], ROWS // 2, self.columns))
        rows = torch.complex(planes[..., : self.kept, :], planes[..., self.kept :, :])
        return torch.fft.fft(rows.mul_(self.twiddle))

    def inverse(self, u_f: Tensor) -> Tensor:
        """Return the first L values [..., L] of the sequence of u_f [..., ROWS / 2 + 1, columns]."""
        rows = torch.view_as_real(torch.fft.ifft(u_f).mul_(self.twiddle.conj()))
        planes = torch.cat((rows[..., 0], rows[..., 1]), dim=-2)
        u = torch.matmul(self.back, planes)
        return u.view(*u.shape[:-2], -1)[..., : self.length]
