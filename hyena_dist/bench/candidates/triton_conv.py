# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""Causal convolution of short sequences in one GPU kernel: between u and y nothing leaves the chip.

A sequence of N = M * M points is viewed as a matrix [M, M], n = n1 * M + n2, with frequency f = k1 + M * k2. Its
transform is a product with the matrix of exp(-2 pi i j k / M) from the left, pointwise twiddle factors, and a product
with the same matrix from the right. The zero padding is the lower half of the rows and is left out of the products
where Triton's least tile allows.

The kernel k is real, so two sequences of a batch ride in one complex transform: the product of the spectrum of
u0 + i u1 with that of k belongs to y0 + i y1.

Inverse transforms are conj(transform(conj(.))) with the steps in reverse order: every function below takes and returns
conjugates on the way back, so that one set of tables serves both ways.

Shapes: c channels, B batch, L length.
"""

import functools
import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_POINTS = 128 * 128
"""The largest N whose planes fit a multiprocessor. At it (M = 128) some of them spill to the caches."""

PRECISION = {16: "tf32x3", 32: "tf32x3", 64: "tf32x3", 128: "bf16x3"}
"""M -> how matrix products are rounded where a call does not say. "tf32x3" has the accuracy of float32. "bf16x3" errs
by 1e-5 of the largest value and takes half the time and memory: with M = 128, tf32x3 exceeds the shared memory of an
H100. "tf32" is accurate to 1e-3; "ieee" is exact but leaves the matrix units idle."""

WARPS = {16: 1, 32: 4, 64: 4, 128: 8}
"""M -> warps of a program. More would share the products out by columns, each with a copy of the left operand in its
registers."""

_HALF = tl.constexpr(tl.float32 if triton.knobs.runtime.interpret else tl.bfloat16)
"""What bf16x3 multiplies in. The interpreter has no products in bfloat16, and truncates where a GPU rounds to it."""


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    """Return the sum acc + a @ b in float32."""
    if PRECISION == "bf16x3":
        a_high, b_high = a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32)
        a_low, b_low = (a - a_high).to(tl.bfloat16).to(_HALF), (b - b_high).to(tl.bfloat16).to(_HALF)
        acc = tl.dot(a_low, b_high.to(_HALF), acc)
        acc = tl.dot(a_high.to(_HALF), b_low, acc)
        acc = tl.dot(a_high.to(_HALF), b_high.to(_HALF), acc)
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _left(cos, sin, re, im, ROWS: tl.constexpr, M: tl.constexpr, PRECISION: tl.constexpr):
    """Return the product (cos - i sin) @ (re + i im), [ROWS, M]."""
    zero = tl.full([ROWS, M], 0.0, tl.float32)
    a = _dot(sin, im, _dot(cos, re, zero, PRECISION), PRECISION)
    b = _dot(sin, -re, _dot(cos, im, zero, PRECISION), PRECISION)
    return a, b


@triton.jit
def _right(re, im, cos, sin, M: tl.constexpr, PRECISION: tl.constexpr):
    """Return the product (re + i im) @ (cos - i sin), [M, M]."""
    zero = tl.full([M, M], 0.0, tl.float32)
    a = _dot(im, sin, _dot(re, cos, zero, PRECISION), PRECISION)
    b = _dot(-re, sin, _dot(im, cos, zero, PRECISION), PRECISION)
    return a, b


@triton.jit
def _table(tables, plane, ROWS: tl.constexpr, COLUMNS: tl.constexpr, M: tl.constexpr):
    """Return the first ROWS and COLUMNS of one of the tables of `_tables`."""
    return tl.load(tables + plane * M * M + tl.arange(0, ROWS)[:, None] * M + tl.arange(0, COLUMNS)[None, :])


@triton.jit
def _twiddle(re, im, tables, M: tl.constexpr):
    cos, sin = _table(tables, 2, M, M, M), _table(tables, 3, M, M, M)
    return re * cos + im * sin, im * cos - re * sin


@triton.jit
def _there(re, im, tables, M: tl.constexpr, H: tl.constexpr, PRECISION: tl.constexpr):
    """Return the spectrum [M, M] of a sequence that is given by its first H rows."""
    re, im = _left(_table(tables, 0, M, H, M), _table(tables, 1, M, H, M), re, im, M, M, PRECISION)
    re, im = _twiddle(re, im, tables, M)
    return _right(re, im, _table(tables, 0, M, M, M), _table(tables, 1, M, M, M), M, PRECISION)


@triton.jit
def _back(re, im, tables, M: tl.constexpr, H: tl.constexpr, PRECISION: tl.constexpr):
    """Return N times the conjugate of a sequence's first H rows, from the conjugate of its spectrum."""
    re, im = _right(re, im, _table(tables, 0, M, M, M), _table(tables, 1, M, M, M), M, PRECISION)
    re, im = _twiddle(re, im, tables, M)
    return _left(_table(tables, 0, H, M, M), _table(tables, 1, H, M, M), re, im, H, M, PRECISION)


@triton.jit
def _positions(M: tl.constexpr, H: tl.constexpr):
    return tl.arange(0, H)[:, None] * M + tl.arange(0, M)[None, :]


@triton.jit
def _load_pair(x, x_c, x_b, c, b, batch, length, M: tl.constexpr, H: tl.constexpr):
    """Return sequences b and b + 1 of channel c, [H, M] each; zero where there is none."""
    n = _positions(M, H)
    x += c * x_c + tl.cast(b, tl.int64) * x_b
    re = tl.load(x + n, mask=n < length, other=0.0).to(tl.float32)
    im = tl.load(x + x_b + n, mask=n < tl.where(b + 1 < batch, length, 0), other=0.0).to(tl.float32)
    return re, im


@triton.jit
def _spectrum_kernel(k_f, k, k_c, tables, length, M: tl.constexpr, H: tl.constexpr, PRECISION: tl.constexpr):
    c = tl.program_id(0).to(tl.int64)
    n = _positions(M, H)
    re = tl.load(k + c * k_c + n, mask=n < length, other=0.0).to(tl.float32)
    re, im = _there(re, tl.full([H, M], 0.0, tl.float32), tables, M, H, PRECISION)
    k_f += c * (2 * M * M) + _positions(M, M)
    tl.store(k_f, re)
    tl.store(k_f + M * M, im)


@triton.jit
def _conv_kernel(
    y, u, u_c, u_b, k_f, tables, batch, length,
    CONJUGATE: tl.constexpr, M: tl.constexpr, H: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Convolve a pair of sequences per program; a channel's pairs are neighbours and share its k_f in the cache."""
    pairs = (batch + 1) // 2
    c, b = (tl.program_id(0) // pairs).to(tl.int64), (tl.program_id(0) % pairs).to(tl.int64) * 2
    re, im = _load_pair(u, u_c, u_b, c, b, batch, length, M, H)
    re, im = _there(re, im, tables, M, H, PRECISION)
    k_f += c * (2 * M * M) + _positions(M, M)
    k_re, k_im = tl.load(k_f), tl.load(k_f + M * M)
    if CONJUGATE:
        k_im = -k_im
    re, im = _back(re * k_re - im * k_im, -(re * k_im + im * k_re), tables, M, H, PRECISION)
    n = _positions(M, H)
    y += (c * batch + b) * length + n
    tl.store(y, re * (1.0 / (M * M)), mask=n < length)
    tl.store(y + length, im * (-1.0 / (M * M)), mask=n < tl.where(b + 1 < batch, length, 0))


def kernel_spectrum(k: Tensor, precision: str | None = None) -> Tensor:
    """Return the spectrum that `fft_conv` takes.

    Args:
        k: [c, L], any floating type.
        precision: how matrix products are rounded, by a name that `PRECISION` explains; its choice for M if None.

    Returns:
        [c, 2, M, M] float32, the real and the imaginary plane.
    """
    k = _rows(k)
    m = side(k.shape[-1])
    k_f = torch.empty(k.shape[0], 2, m, m, dtype=torch.float32, device=k.device)
    _spectrum_kernel[(k.shape[0],)](k_f, k, k.stride(0), _tables(m, k.device), k.shape[1], **_options(m, precision))
    return k_f


def fft_conv(u: Tensor, k_f: Tensor, conjugate: bool = False, precision: str | None = None) -> Tensor:
    """Return y[c, b, t] = sum over s <= t of k[c, t - s] * u[c, b, s].

    Args:
        u: [c, B, L], any floating type and strides.
        k_f: the kernels' spectrum, kernel_spectrum(k), [c, 2, M, M] float32.
        conjugate: the correlation y[c, b, t] = sum over s >= t of k[c, s - t] * u[c, b, s] instead: the gradient with
            respect to u if this u is that with respect to y.
        precision: how matrix products are rounded, by a name that `PRECISION` explains; its choice for M if None.

    Returns:
        [c, B, L] float32.
    """
    u = _rows(u)
    channels, batch, length = u.shape
    m = side(length)
    if k_f.shape != (channels, 2, m, m):
        raise ValueError(f"the spectrum of a kernel for u {tuple(u.shape)} is not {tuple(k_f.shape)}")
    y = torch.empty(u.shape, dtype=torch.float32, device=u.device)
    _conv_kernel[(channels * ((batch + 1) // 2),)](
        y, u, *u.stride()[:2], k_f.contiguous(), _tables(m, u.device), batch, length,
        CONJUGATE=conjugate, **_options(m, precision),
    )  # fmt: skip
    return y


def side(length: int) -> int:
    """Return M for sequences of this length: the smallest of 16, 32, 64, 128 with M * M >= 2 * length - 1."""
    for m in WARPS:
        if 2 * length - 1 <= m * m <= MOST_POINTS:
            return m
    raise ValueError(f"length {length} needs more than {MOST_POINTS} points")


def _options(m: int, precision: str | None) -> dict[str, Any]:
    """Return the kernels' options; H counts the rows that are not padding, and tl.dot takes no fewer than 16."""
    return {"M": m, "H": max(m // 2, 16), "PRECISION": precision or PRECISION[m], "num_warps": WARPS[m]}


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@functools.lru_cache(maxsize=16)
def _tables(m: int, device: torch.device) -> Tensor:
    """Return float32 [4, M, M]: cos and sin of 2 pi j k / M, then of 2 pi j k / (M * M)."""
    j = torch.arange(m)
    product = j[:, None] * j
    angles = [2 * math.pi / n * (product % n).double() for n in (m, m * m)]
    return torch.stack([f(angle) for angle in angles for f in (torch.cos, torch.sin)]).float().to(device)
