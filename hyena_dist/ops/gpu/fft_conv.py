"""The functions of `ops.triton.long_conv` with torch's FFTs between kernels: the other candidate on a GPU.

A convolution takes a product of rows, an FFT of it, a product with the spectrum, an FFT back and another product of
rows, each of them a pass over memory of its own.

Shapes: C channels, B batch, L length; spectra are complex, [C, F].
"""

import torch
from torch import Tensor

from hyena_dist.ops.conv.fft import PlainTransform
from hyena_dist.ops.triton.long_conv import Precision
from hyena_dist.ops.triton.product import product
from hyena_dist.ops.triton.rows import Product, Rows


def spectrum(k: Tensor, precision: Precision) -> Tensor:
    """Return the spectrum of kernels k [C, L] in float32 that the functions below take; FFTs are in float32."""
    return PlainTransform(k.shape[-1]).forward(k)


def convolve(
    u: Product,
    spectrum: Tensor,
    out: Tensor,
    *,
    gate: Rows | None = None,
    z: Tensor | None = None,
    precision: Precision,
) -> None:
    """Write the convolution times the gate to `out`, and the convolution to `z`, as `long_conv.convolve` does."""
    fft = PlainTransform(out.shape[-1])
    value = fft.inverse(fft.forward(_values(u, out)).mul_(spectrum[:, None]))
    if z is not None:
        z.copy_(value)
    if gate is None:
        out.copy_(value)
    else:
        product((gate, Rows(value)), out)


def convolve_backward(
    d: Product, u: Product, spectrum: Tensor, du: Tensor, dk: Tensor, *, precision: Precision
) -> None:
    """Write the gradients of the convolution's input and kernels, as `long_conv.convolve_backward` does."""
    fft = PlainTransform(du.shape[-1])
    d_f = fft.forward(_values(d, du))
    u_f = fft.forward(_values(u, du))
    dk.copy_(fft.inverse(u_f.conj_physical_().mul_(d_f).sum(1)))
    du.copy_(fft.inverse(d_f.mul_(spectrum.conj_physical()[:, None])))


def _values(rows: Product, like: Tensor) -> Tensor:
    """Return the product of rows in float32, contiguous."""
    out = torch.empty(like.shape, dtype=torch.float32, device=like.device)
    product(rows, out)
    return out
