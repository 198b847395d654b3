"""Causal convolution with a filter as long as the sequence, by FFT: for context parallelism, between two exchanges.

What is computed, with F the transform of a sequence padded with zeros so that nothing wraps around:

    y = k * u:  y_t = sum over s <= t of k_{t-s} u_s        F(y) = F(k) F(u)

Backward, from dy:

    du_s = sum over t >= s of k_{t-s} dy_t        F(du) = conj(F(k)) F(dy)
    dk_s = sum over batch and t >= s of u_{t-s} dy_t        F(dk) = sum over batch of conj(F(u)) F(dy)

Plain reference: `hyena_dist.ops.reference.long_conv`.

Shapes: B batch, C channels, L length.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.backend import backend_of
from hyena_dist.ops.conv.fft import transform
from hyena_dist.ops.conv.gates import real


def convolve(u: Tensor, k: Tensor) -> Tensor:
    """Return the value of `long_conv`, without autograd."""
    if kernels := _kernels(u):
        y: Tensor = kernels.convolve(u, k)
        return y
    fft = transform(u.shape[-1], real(u).dtype, u.device)
    return fft.inverse(fft.forward(real(u)).mul_(fft.forward(real(k)))).to(u.dtype)


def convolve_backward(dy: Tensor, u: Tensor, k: Tensor, want_du: bool = True) -> tuple[Tensor | None, Tensor]:
    """Return the gradients (du, dk) of y = convolve(u, k); du is None if it is not wanted.

    The spectra, 4 times as large as u, are computed again rather than kept.
    """
    if kernels := _kernels(u):
        gradients: tuple[Tensor | None, Tensor] = kernels.convolve_backward(dy, u, k, want_du)
        return gradients
    fft = transform(u.shape[-1], real(u).dtype, u.device)
    dy_f = fft.forward(real(dy))
    dk = fft.inverse(fft.forward(real(u)).conj_physical_().mul_(dy_f).sum(0)).to(k.dtype)
    if not want_du:
        return None, dk
    return fft.inverse(dy_f.mul_(fft.forward(real(k)).conj_physical_())).to(u.dtype), dk


def _kernels(u: Tensor) -> Any:
    """Return `ops.gpu.long` where its kernels are to be taken, else None."""
    if backend_of(u.device) == "torch":
        return None
    module = import_module("hyena_dist.ops.gpu.long")
    return module if module.takes(u) else None


class _LongConv(torch.autograd.Function):
    """The autograd function of `long_conv`, which keeps its two inputs and nothing else."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(u, k)
        return convolve(u, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor]:
        u, k = ctx.saved_tensors
        return convolve_backward(dy, u, k, want_du=ctx.needs_input_grad[0])


def long_conv(u: Tensor, k: Tensor) -> Tensor:
    """Return y[b, c, t] = sum over s <= t of k[c, t - s] * u[b, c, s].

    Args:
        u: [B, C, L] in any floating type.
        k: [C, L] filter, float32 (float64 with a float64 u).

    Returns:
        [B, C, L] in the type of u. Differentiable once with respect to both.

    Source: Hyena (arXiv 2302.10866), section 3; the FFT is at least 2L - 1 long, so nothing wraps around.
    """
    y: Tensor = _LongConv.apply(u, k)
    return y
