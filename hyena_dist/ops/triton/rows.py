# mypy: allow-untyped-defs, allow-incomplete-defs
"""The rows at the ends of kernels: products of up to two operands, each of which may pass a short filter.

An operand is the tensor's address and strides, the addresses of its filter's taps and bias, and TAPS, their number,
which is 0 where there is no filter; an operand that is not there has None for an address.

Shapes: c channels, B batch, L length, K taps; [c, B, L] tensors may have any strides.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Rows(NamedTuple):
    """Rows [c, B, L] in any floating type but float64, as they are or short-filtered."""

    x: Tensor
    """The rows, [c, B, L]."""
    taps: Tensor | None = None
    """Taps of each channel's causal filter, [c, K]; None for rows as they are."""
    bias: Tensor | None = None
    """Bias of each channel's filter, [c]."""


Product = tuple[Rows, Rows | None]
"""One operand, or two that are multiplied."""


@triton.jit
def _load(row, stride, t, length):
    """Return the values of a row at positions t in float32, zero where it has none."""
    return tl.load(row + t.to(tl.int64) * stride, mask=(t >= 0) & (t < length), other=0.0).to(tl.float32)


@triton.jit
def _filtered(row, stride, taps, bias, channel, t, length, K: tl.constexpr):
    """Return a row's short-filtered values at positions t. The K loads overlap: all but one come from the cache."""
    y = tl.load(bias + channel).to(tl.float32)
    for shift in tl.static_range(K):
        y += tl.load(taps + channel * K + (K - 1 - shift)).to(tl.float32) * _load(row, stride, t - shift, length)
    return y


@triton.jit
def load_rows(x, x_c, x_b, x_t, taps, bias, c, b, t, length, TAPS: tl.constexpr):
    """Return an operand's values at positions t in float32; those after the end mean nothing if it is filtered."""
    row = x + c * x_c + b * x_b
    if TAPS > 0:  # noqa: SIM108 (a branch on a constant, which the compiler drops)
        value = _filtered(row, x_t, taps, bias, c, t, length, TAPS)
    else:
        value = _load(row, x_t, t, length)
    return value


@triton.jit
def load_product(
    x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, c, b, t, length,
    X_TAPS: tl.constexpr, M_TAPS: tl.constexpr,
):  # fmt: skip
    """Return the product of operands x and m (of x if there is no m) at positions t, zero where there are none."""
    value = load_rows(x, x_c, x_b, x_t, x_taps, x_bias, c, b, t, length, X_TAPS)
    if m is not None:
        value *= load_rows(m, m_c, m_b, m_t, m_taps, m_bias, c, b, t, length, M_TAPS)
    return tl.where(t < length, value, 0.0)


@triton.jit
def store_product(
    value, y, y_c, y_b, y_t, z, z_c, z_b, z_t, x, x_c, x_b, x_t, x_taps, x_bias, c, b, t, length,
    X_TAPS: tl.constexpr,
):  # fmt: skip
    """Write a value at positions t to z, if there is a z, and its product with operand x, if there is an x, to y."""
    n = t.to(tl.int64)
    if z is not None:
        tl.store(z + c * z_c + b * z_b + n * z_t, value, mask=t < length)
    if x is not None:
        value *= load_rows(x, x_c, x_b, x_t, x_taps, x_bias, c, b, t, length, X_TAPS)
    tl.store(y + c * y_c + b * y_b + n * y_t, value, mask=t < length)


def operands(*rows: Rows | None) -> list[Any]:
    """Return a kernel's arguments for operands, some of which may be missing."""
    arguments: list[Any] = []
    for one in rows:
        if one is None:
            arguments += None, 0, 0, 0, None, None
        else:
            filters = (None if given is None else given.contiguous() for given in (one.taps, one.bias))
            arguments += one.x, *one.x.stride(), *filters
    return arguments


def strided(x: Tensor | None) -> tuple[Any, ...]:
    """Return a kernel's arguments for a tensor [c, B, L] that it writes."""
    return (None, 0, 0, 0) if x is None else (x, *x.stride())


def taps_of(rows: Rows | None) -> int:
    """Return TAPS of an operand."""
    return 0 if rows is None or rows.taps is None else rows.taps.shape[1]


def tensors_of(*operands: Rows | None) -> list[Tensor]:
    """Return the rows of the operands that are there, which a kernel reads."""
    return [rows.x for rows in operands if rows is not None]
