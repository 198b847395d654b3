"""The Hyena operator between its two projections, in one function that keeps its input alone.

Shapes: C channels, B batch, L length, N order, K taps of the short filter. Channels come first, so that everything is
done for a few channels at a time, in memory that the caches hold.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.long_conv import fast_fft_size, real

BLOCK_ELEMENTS = 2**21
"""Numbers of one padded operand in a block of channels: a few such buffers fit a CPU's last-level cache."""


def hyena_operator(projected: Tensor, weight: Tensor, bias: Tensor, kernels: Tensor) -> Tensor:
    """The operator x0 * conv(x1 * conv(... x_{N-1} * v)), where x0, ..., x_{N-1}, v are short-filtered projections.

    Args:
        projected: [(N + 1) C, B, L], in any floating type; computed with in float32 (float64 for float64).
        weight: [(N + 1) C, K], taps of the causal short filters; the last one meets the present position.
        bias: [(N + 1) C].
        kernels: [N - 1, C, L], the first is applied first; float32 (float64).

    Returns:
        [C, B, L] in the type of `projected`. Differentiable once with respect to all arguments.

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    y: Tensor = _Hyena.apply(projected, weight, bias, kernels)
    return y


class _Hyena(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(projected, weight, bias, kernels)
        channels, (_, batch, length) = kernels.shape[1], projected.shape
        y = projected.new_empty(channels, batch, length)
        for block in _blocks(channels, batch, length):
            gates = _short_filtered(projected, weight, bias, channels, block)
            v = gates.pop()
            for k in kernels:
                v = _convolved(v.mul_(gates.pop()), _spectrum(k[block])[:, None])
            y[block] = v.mul_(gates.pop())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        projected, weight, bias, kernels = ctx.saved_tensors
        channels, (_, batch, length) = kernels.shape[1], projected.shape
        size = fast_fft_size(2 * length - 1)
        d_projected, d_kernels = torch.empty_like(projected), torch.empty_like(kernels)
        d_weight, d_bias = torch.empty_like(weight), torch.empty_like(bias)
        for block in _blocks(channels, batch, length):
            *gates, v = _short_filtered(projected, weight, bias, channels, block)
            # Again what forward did not keep: what enters each convolution, its spectrum and the filter's.
            entering, spectra = [v], []
            for gate, k in zip(reversed(gates[1:]), kernels, strict=True):
                u_f, k_f = _spectrum(v * gate), _spectrum(k[block])[:, None]
                spectra.append((u_f, k_f))
                v = torch.fft.irfft(u_f * k_f, n=size)[..., :length]
                entering.append(v)
            d_v = real(dy[block])
            d_gates = [d_v * entering.pop()]
            d_v = d_v * gates[0]
            for j, gate in enumerate(gates[1:]):
                u_f, k_f = spectra.pop()
                d_f = _spectrum(d_v)
                d_k_f = u_f.conj_physical_().mul_(d_f).sum(1)
                d_kernels[len(kernels) - 1 - j, block] = torch.fft.irfft(d_k_f, n=size)[..., :length]
                d_u = torch.fft.irfft(d_f.mul_(k_f.conj()), n=size)[..., :length]
                d_gates.append(d_u * entering.pop())
                d_v = d_u * gate
            for i, d_short in enumerate((*d_gates, d_v)):
                rows = slice(i * channels + block.start, i * channels + block.stop)
                _short_filter_backward(d_short, projected[rows], weight[rows], d_projected[rows], d_weight[rows])
                d_bias[rows] = d_short.sum((1, 2))
        return d_projected, d_weight, d_bias, d_kernels


def _blocks(channels: int, batch: int, length: int) -> list[slice]:
    size = max(1, BLOCK_ELEMENTS // (batch * fast_fft_size(2 * length - 1)))
    return [slice(first, min(first + size, channels)) for first in range(0, channels, size)]


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft(x, n=fast_fft_size(2 * x.shape[-1] - 1))


def _convolved(u: Tensor, k_f: Tensor) -> Tensor:
    size = fast_fft_size(2 * u.shape[-1] - 1)
    return torch.fft.irfft(torch.fft.rfft(u, n=size).mul_(k_f), n=size)[..., : u.shape[-1]]


def _short_filtered(projected: Tensor, weight: Tensor, bias: Tensor, channels: int, block: slice) -> list[Tensor]:
    """The block's channels of x0, ..., x_{N-1} and v, each [c, B, L]."""
    found = []
    for start in range(0, len(projected), channels):
        rows = slice(start + block.start, start + block.stop)
        x, w = real(projected[rows]), real(weight[rows])
        y = torch.addcmul(real(bias[rows])[:, None, None], x, w[:, -1, None, None])
        for shift in range(1, min(w.shape[1], x.shape[-1])):
            y[..., shift:].addcmul_(x[..., :-shift], w[:, -1 - shift, None, None])
        found.append(y)
    return found


def _short_filter_backward(dy: Tensor, x: Tensor, weight: Tensor, dx: Tensor, d_weight: Tensor) -> None:
    """Gradients of one short filter, written into dx and d_weight."""
    x, w = real(x), real(weight)
    d = dy * w[:, -1, None, None]
    d_weight.zero_()
    d_weight[:, -1] = (dy * x).sum((1, 2))
    for shift in range(1, min(w.shape[1], x.shape[-1])):
        d[..., :-shift].addcmul_(dy[..., shift:], w[:, -1 - shift, None, None])
        d_weight[:, -1 - shift] = (dy[..., shift:] * x[..., :-shift]).sum((1, 2))
    dx.copy_(d)
