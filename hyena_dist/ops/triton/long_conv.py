"""The causal convolution with filters as long as the sequence, between gates, on tensor cores.

    y[c, b, t] = g[c, b, t] z[c, b, t]        z[c, b, t] = sum over s <= t of k[c, t - s] u[c, b, s]

where u is the product of one or two operands, and operands and g are rows in memory, as they are or short-filtered.
What is computed and how is said in `fft`; sequences of at most 4,096 points take one launch (`short_kernels`), longer
ones three, backward five (`long_kernels`).

Backward, from the gradient d of z:

    du[c, b, t] = sum over s >= t of k[c, s - t] d[c, b, s]
    dk[c, t] = sum over b, s >= t of u[c, b, s - t] d[c, b, s]

Precisions are those of `fft`: "bf16x3" suits activations in 16 bits, "bf16x6" those in float32; "bf16" also keeps
spectra and what lies between launches in bfloat16.

Shapes: C channels, B batch, L length, N points of a spectrum; [C, B, L] tensors may have any strides and any floating
type but float64.
"""

import functools
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from hyena_dist.ops.triton import long_kernels, short_kernels
from hyena_dist.ops.triton.rows import Product, Rows

Precision = Literal["bf16", "bf16x3", "bf16x6"]

_PARTS: dict[Precision, int] = {"bf16": 1, "bf16x3": 2, "bf16x6": 3}


def precision_for(dtype: torch.dtype) -> Precision:
    """Return the precision that suits activations of a type."""
    return "bf16x6" if dtype == torch.float32 else "bf16x3"


def empty_spectrum(k: Tensor, precision: Precision) -> Tensor:
    """Return memory for `spectrum`, [C, 2, N] in float32, or in bfloat16 for "bf16"."""
    channels, length = k.shape
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return torch.empty(channels, 2, points(length), dtype=dtype, device=k.device)


def spectrum(k: Tensor, precision: Precision) -> Tensor:
    """Return the spectrum of kernels k [C, L] in float32 that the functions below take, `empty_spectrum`."""
    out = empty_spectrum(k, precision)
    length = k.shape[-1]
    _kernels(length).spectrum(out, k, _tables(length, k.device), _PARTS[precision])
    return out


def convolve(
    u: Product,
    spectrum: Tensor,
    out: Tensor,
    *,
    gate: Rows | None = None,
    z: Tensor | None = None,
    precision: Precision,
) -> None:
    """Write y to `out`, and the convolution itself to `z` if it is given.

    Args:
        u: the convolution's input, one operand [C, B, L] (and None) or two that are multiplied.
        spectrum: `spectrum` of the kernels, in the same precision.
        out: memory for y, [C, B, L]; it shares none with what is read.
        gate: the factor g [C, B, L]; y is the convolution itself without it.
        z: memory for the convolution, [C, B, L].
        precision: how products of matrices are rounded.

    Raises:
        ValueError: the spectrum is that of other shapes or another precision.
    """
    _check(spectrum, out, precision)
    length = out.shape[-1]
    _kernels(length).convolve(u, spectrum, out, gate, z, _tables(length, out.device), _PARTS[precision])


def convolve_backward(
    d: Product, u: Product, spectrum: Tensor, du: Tensor, dk: Tensor, *, precision: Precision
) -> None:
    """Write the gradients of the convolution's input and of the kernels.

    Args:
        d: the gradient of the convolution z, one operand [C, B, L] (and None) or two that are multiplied.
        u: the convolution's input, as for `convolve`.
        spectrum: `spectrum` of the kernels, in the same precision.
        du: memory for the gradient of u, [C, B, L]; it shares none with what is read.
        dk: memory for the gradient of the kernels, [C, L] in float32.
        precision: how products of matrices are rounded.

    Raises:
        ValueError: the spectrum is that of other shapes or another precision.
    """
    _check(spectrum, du, precision)
    length = du.shape[-1]
    _kernels(length).backward(d, u, spectrum, du, dk, _tables(length, du.device), _PARTS[precision])


def points(length: int) -> int:
    """Return N for sequences of a length."""
    if length <= short_kernels.MOST_POINTS:
        p, q = short_kernels.points(length)
        return p * q
    return long_kernels.rows_of(length) * long_kernels.SIDE**2


def _kernels(length: int) -> ModuleType:
    return short_kernels if length <= short_kernels.MOST_POINTS else long_kernels


def _check(spectrum: Tensor, rows: Tensor, precision: Precision) -> None:
    channels, _, length = rows.shape
    expected = empty_spectrum(torch.empty(channels, length, device="meta"), precision)
    if spectrum.shape != expected.shape or spectrum.dtype != expected.dtype:
        raise ValueError(
            f"{precision} spectra for rows {tuple(rows.shape)} are {tuple(expected.shape)} in {expected.dtype}, "
            f"not {tuple(spectrum.shape)} in {spectrum.dtype}"
        )


@functools.lru_cache(maxsize=16)
def _tables(length: int, device: torch.device) -> short_kernels.Tables | long_kernels.Tables:
    """Return the tables for sequences of a length on a device, where they stay for the next call."""
    tables = _kernels(length).tables(length)
    return type(tables)(*(table.to(device) for table in tables))
