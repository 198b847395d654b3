# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""The causal convolution of sequences that fit a multiprocessor, with its gates, in one kernel each way.

A sequence of at most N = P Q points is a tile [P, Q]: `fft` with N1 = P and N2 = Q, where the transform of all rows is
one product of matrices. Between operands and result nothing leaves the chip.

    convolve     X = transform(x m), y = g z with z = inverse(X K)
    backward     D = transform(x m), U = transform(x2 m2),
                 du = inverse(D conj(K)), dk = inverse(sum over B of D conj(U))

Shapes: c channels, B batch, G groups of the batch, L length; spectra are [c, 2, P, Q].
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.triton import fft
from hyena_dist.ops.triton.fft import (
    complex_matmul,
    load_complex,
    load_square,
    matmul,
    places,
    places_across,
    split,
    store_complex,
    times,
    times_conjugate,
)
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.rows import (
    Product,
    Rows,
    load_product,
    operands,
    store_product,
    strided,
    taps_of,
    tensors_of,
)

MOST_POINTS = 64 * 64
"""The largest N."""

WARPS = {256: 1, 512: 2, 1024: 2, 4096: 4}
"""N -> warps of a program: with more of them, some would do the same work twice."""

PROGRAMS = 256
"""Programs that keep a GPU busy: where there are fewer channels, backward splits the batch in groups."""


class Tables(NamedTuple):
    """The tables of transforms of N = P Q points."""

    level: Tensor
    """The matrix F of N1 = P, both ways, [2, 2, 3, P, P] in bfloat16."""
    shift: Tensor
    """The factors S, [2, P, Q] in float32."""
    matrix: Tensor
    """The matrix of e(j k / Q), [2, 3, Q, Q] in bfloat16."""


@triton.jit
def _transform(x, level, shift, matrix, P: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr):
    """Return the spectrum [P, Q] of a real sequence, which lies across, [Q, P]."""
    zero = tl.zeros([Q, P], tl.float32)
    x = split(x)
    re = matmul(x, load_square(level, P, PARTS), zero, PARTS)
    im = matmul(x, load_square(level + 3 * P * P, P, PARTS), zero, PARTS)
    s_re, s_im = load_complex(shift, places_across(P, Q), P * Q)
    re, im = times(re, im, s_re, s_im)
    return complex_matmul(tl.trans(re), tl.trans(im), matrix, Q, PARTS)


@triton.jit
def _inverse(re, im, level, shift, matrix, P: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr):
    """Return the sequence, across, from the conjugate of its spectrum."""
    re, im = complex_matmul(re, im, matrix, Q, PARTS)
    s_re, s_im = load_complex(shift, places(P, Q), P * Q)
    re, im = times(re, im, s_re, s_im)
    level += 6 * P * P
    im = split(tl.trans(im))
    value = matmul(im, load_square(level + 3 * P * P, P, PARTS), tl.zeros([Q, P], tl.float32), PARTS)
    return matmul(split(tl.trans(re)), load_square(level, P, PARTS), value, PARTS) * (1.0 / (P * Q))


@triton.jit
def _short_spectrum(
    out, k, k_c, k_t, level, shift, matrix, length,
    P: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0).to(tl.int64)
    t = places_across(P, Q)
    x = tl.load(k + c * k_c + t * k_t, mask=t < length, other=0.0)
    re, im = _transform(x, level, shift, matrix, P, Q, PARTS)
    store_complex(out + c * (2 * P * Q), places(P, Q), P * Q, re, im)


@triton.jit
def _short_convolve(
    x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, g, g_c, g_b, g_t, g_taps, g_bias,
    y, y_c, y_b, y_t, z, z_c, z_b, z_t, spectrum, level, shift, matrix, batch, length,
    X_TAPS: tl.constexpr, M_TAPS: tl.constexpr, G_TAPS: tl.constexpr,
    P: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    c, b = (tl.program_id(0) // batch).to(tl.int64), (tl.program_id(0) % batch).to(tl.int64)
    t = places_across(P, Q)
    u = load_product(
        x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, c, b, t, length, X_TAPS, M_TAPS
    )
    re, im = _transform(u, level, shift, matrix, P, Q, PARTS)
    k_re, k_im = load_complex(spectrum + c * (2 * P * Q), places(P, Q), P * Q)
    re, im = times(re, im, k_re, k_im)
    value = _inverse(re, -im, level, shift, matrix, P, Q, PARTS)
    store_product(value, y, y_c, y_b, y_t, z, z_c, z_b, z_t, g, g_c, g_b, g_t, g_taps, g_bias, c, b, t, length, G_TAPS)


@triton.jit
def _short_backward(
    x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias,
    x2, x2_c, x2_b, x2_t, x2_taps, x2_bias, m2, m2_c, m2_b, m2_t, m2_taps, m2_bias,
    du, du_c, du_b, du_t, dk, dk_c, dk_g, dk_t, d_f, spectrum, level, shift, matrix, batch, groups, length,
    X_TAPS: tl.constexpr, M_TAPS: tl.constexpr, X2_TAPS: tl.constexpr, M2_TAPS: tl.constexpr,
    P: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    # Spectra wait in the caches, so that a transform has the registers for itself.
    c, group = (tl.program_id(0) // groups).to(tl.int64), (tl.program_id(0) % groups).to(tl.int64)
    here, t = places(P, Q), places_across(P, Q)
    d_f += (c * groups + group) * (4 * P * Q)
    dk_f = d_f + 2 * P * Q
    for b in range(group, batch, groups):
        d = load_product(
            x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, c, b, t, length, X_TAPS, M_TAPS
        )
        re, im = _transform(d, level, shift, matrix, P, Q, PARTS)
        tl.debug_barrier()
        store_complex(d_f, here, P * Q, re, im)
        u = load_product(
            x2, x2_c, x2_b, x2_t, x2_taps, x2_bias, m2, m2_c, m2_b, m2_t, m2_taps, m2_bias, c, b, t, length,
            X2_TAPS, M2_TAPS,
        )  # fmt: skip
        re, im = _transform(u, level, shift, matrix, P, Q, PARTS)
        d_re, d_im = load_complex(d_f, here, P * Q)
        re, im = times_conjugate(re, im, d_re, d_im)
        if b > group:
            sum_re, sum_im = load_complex(dk_f, here, P * Q)
            re += sum_re
            im += sum_im
        tl.debug_barrier()
        store_complex(dk_f, here, P * Q, re, im)
        k_re, k_im = load_complex(spectrum + c * (2 * P * Q), here, P * Q)
        d_re, d_im = load_complex(d_f, here, P * Q)
        re, im = times_conjugate(k_re, k_im, d_re, d_im)
        value = _inverse(re, im, level, shift, matrix, P, Q, PARTS)
        tl.store(du + c * du_c + b * du_b + t.to(tl.int64) * du_t, value, mask=t < length)
    tl.debug_barrier()
    re, im = load_complex(dk_f, here, P * Q)
    value = _inverse(re, im, level, shift, matrix, P, Q, PARTS)
    tl.store(dk + c * dk_c + group * dk_g + t.to(tl.int64) * dk_t, value, mask=t < length)


def points(length: int) -> tuple[int, int]:
    """Return P and Q for sequences of at most 4,096 points; on an A100, backward with 64 and 32 spills registers."""
    for p, q in ((16, 16), (16, 32), (32, 32), (64, 64)):
        if length <= p * q:
            return p, q
    raise ValueError(f"length {length} needs more than {MOST_POINTS} points")


def tables(length: int) -> Tables:
    """Return the tables for sequences of a length, on the CPU."""
    p, q = points(length)
    return Tables(fft.first_level(p, p), fft.shifts(p, q, torch.arange(q)), fft.matrix(q))


def spectrum(out: Tensor, k: Tensor, tables: Tables, parts: int) -> None:
    """Write the spectrum of kernels k [c, L] in float32 to `out`, [c, 2, N] in float32 or bfloat16."""
    channels, length = k.shape
    arguments = (out, k, *k.stride(), *tables, length)
    launch(_short_spectrum, (channels,), arguments, reads=(k,), writes=(out,), **_options(length, parts))


def convolve(
    u: Product, spectrum: Tensor, y: Tensor, gate: Rows | None, z: Tensor | None, tables: Tables, parts: int
) -> None:
    """Compute `long_conv.convolve` in one launch."""
    channels, batch, length = y.shape
    arguments = (*operands(*u, gate), *strided(y), *strided(z), spectrum, *tables, batch, length)
    launch(
        _short_convolve, (channels * batch,), arguments,
        reads=(*tensors_of(*u, gate), spectrum), writes=(y,) if z is None else (y, z),
        X_TAPS=taps_of(u[0]), M_TAPS=taps_of(u[1]), G_TAPS=taps_of(gate), **_options(length, parts),
    )  # fmt: skip


def backward(d: Product, u: Product, spectrum: Tensor, du: Tensor, dk: Tensor, tables: Tables, parts: int) -> None:
    """Compute `long_conv.convolve_backward` in one launch, or in two where groups of the batch are added up."""
    channels, batch, length = du.shape
    groups = min(batch, triton.cdiv(PROGRAMS, channels))
    caches = torch.empty(channels * groups, 2, *spectrum.shape[1:], device=du.device)
    sums = dk[:, None] if groups == 1 else torch.empty(groups, *dk.shape, device=dk.device).transpose(0, 1)
    arguments = (*operands(*d, *u), *strided(du), *strided(sums), caches, spectrum, *tables, batch, groups, length)
    launch(
        _short_backward, (channels * groups,), arguments,
        reads=(*tensors_of(*d, *u), spectrum), writes=(du, sums),
        X_TAPS=taps_of(d[0]), M_TAPS=taps_of(d[1]), X2_TAPS=taps_of(u[0]), M2_TAPS=taps_of(u[1]),
        **_options(length, parts),
    )  # fmt: skip
    if groups > 1:
        torch.sum(sums, dim=1, out=dk)


def _options(length: int, parts: int) -> dict[str, int]:
    p, q = points(length)
    return {"P": p, "Q": q, "PARTS": parts, "num_warps": WARPS[p * q]}
