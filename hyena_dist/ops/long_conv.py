"""Causal convolution with a filter as long as the sequence, by FFT.

Shapes: B batch, C channels, L length, F = fft_size // 2 + 1 frequencies.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fast_fft_size(n: int) -> int:
    """The smallest m * 2**j >= n with m in (1, 3, 5, 9, 15): small primes keep every FFT library on its fast path."""
    candidates = []
    for m in (1, 3, 5, 9, 15):
        size = m
        while size < n:
            size *= 2
        candidates.append(size)
    return min(candidates)


def convolve(u: Tensor, k: Tensor) -> Tensor:
    """`long_conv` without autograd."""
    size = fast_fft_size(2 * u.shape[-1] - 1)
    y_f = torch.fft.rfft(real(u), n=size).mul_(torch.fft.rfft(real(k), n=size))
    return torch.fft.irfft(y_f, n=size)[..., : u.shape[-1]].to(u.dtype)


def convolve_backward(dy: Tensor, u: Tensor, k: Tensor, want_du: bool = True) -> tuple[Tensor | None, Tensor]:
    """(du, dk) of y = convolve(u, k). The spectra, 4 times as large as u, are computed again rather than kept."""
    length = u.shape[-1]
    size = fast_fft_size(2 * length - 1)
    dy_f = torch.fft.rfft(real(dy), n=size)
    # y = u * k  =>  du = correlation(dy, k) and dk = sum over B of correlation(dy, u); both are causal slices.
    dk_f = torch.fft.rfft(real(u), n=size).conj_physical_().mul_(dy_f).sum(0)
    dk = torch.fft.irfft(dk_f, n=size)[..., :length].to(k.dtype)
    if not want_du:
        return None, dk
    du_f = dy_f.mul_(torch.fft.rfft(real(k), n=size).conj_physical_())
    return torch.fft.irfft(du_f, n=size)[..., :length].to(u.dtype), dk


class _LongConv(torch.autograd.Function):
    """Keeps its two inputs and nothing else."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(u, k)
        return convolve(u, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor]:
        u, k = ctx.saved_tensors
        return convolve_backward(dy, u, k, want_du=ctx.needs_input_grad[0])


def real(x: Tensor) -> Tensor:
    """As FFTs take it: float32 whatever comes in (bf16 has no FFT, fp16 overflows), float64 for float64."""
    return x if x.dtype == torch.float64 else x.float()


def long_conv(u: Tensor, k: Tensor) -> Tensor:
    """y[b, c, t] = sum over s <= t of k[c, t - s] * u[b, c, s].

    Args:
        u: [B, C, L] in any floating type.
        k: [C, L] filter, float32 (float64 with a float64 u).

    Returns:
        [B, C, L] in the type of u. Differentiable once with respect to both.

    Source: Hyena (arXiv 2302.10866), section 3; the FFT is at least 2L - 1 long, so nothing wraps around.
    """
    y: Tensor = _LongConv.apply(u, k)
    return y
