# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""The causal convolution of sequences of any length, with its gates, in kernels of three kinds.

The levels of `fft` with rows of N2 = SIDE * SIDE points and N1 = L / N2, rounded up:

    first level    operands -> Z, a product with F for a block of columns n2
    rows           Z -> X, times the kernels' spectrum, back to rows: in place, and each row stays on the chip meanwhile
    last level     rows -> z and y = g z, a product with F's transpose for a block of columns n2

Backward takes two first levels (of the gradient d of the convolution's value, and of its input u), rows of both, and
two last levels (du and dk).

Shapes: c channels, B batch, L length, N = N1 N2; Z is [c, B, 2, N1, N2] (real, imaginary) in float32, or in bfloat16,
and so is a spectrum, [c, 2, N1, N2].
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
    load_parts,
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

SIDE = 64
"""Both sides of the matrix that a row is transformed as."""

MOST_ROWS = 128
"""The most rows of F that a program multiplies with; with more of them, several programs read the same columns."""

TILE = 8192
"""Numbers in the tile that a program of the first or last level makes: with 8 warps, complex ones fill 64 registers.
With at most 128 rows it has 64 columns or more, as many as the matrix units of an H100 ask for."""

MOST_COLUMNS = 128
"""The most columns of such a tile: what a program reads for more of them exceeds its shared memory in float32."""

DEPTH = 32
"""Columns of F that a program holds at a time."""

WARPS = 8

ROW_WARPS = 4
"""Warps of a program that transforms a row: more than SIDE / 16 would do the same work twice."""


class Tables(NamedTuple):
    """The tables of transforms of N = N1 N2 points."""

    level: Tensor
    """The matrix F, both ways, [2, 2, 3, R, R] in bfloat16 with R >= N1."""
    shift: Tensor
    """The factors S at n2 = p SIDE and then at n2 = q, whose products are all factors, [2, 2, N1, SIDE] in float32."""
    matrix: Tensor
    """The matrix of e(j k / SIDE), [2, 3, SIDE, SIDE] in bfloat16."""
    twiddle: Tensor
    """The factors e(q kp / N2), [2, SIDE, SIDE] in float32."""


@triton.jit
def _columns(batch, n1, N2: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return this program's channel and batch index, and its first row and column of the tile that it makes.

    Programs that read the same columns are neighbours.
    """
    row_blocks = tl.cdiv(n1, ROWS)
    program = tl.program_id(0)
    block = program // row_blocks
    sequence = block // (N2 // COLUMNS)
    row = (program % row_blocks) * ROWS
    column = (block % (N2 // COLUMNS)) * COLUMNS
    return (sequence // batch).to(tl.int64), (sequence % batch).to(tl.int64), row, column


@triton.jit
def _first_level(
    out, x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, level, size, batch, length, n1,
    X_TAPS: tl.constexpr, M_TAPS: tl.constexpr, N2: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    c, b, row, column = _columns(batch, n1, N2, ROWS, COLUMNS)
    rows, columns, inner = row + tl.arange(0, ROWS), column + tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    re, im = tl.zeros([COLUMNS, ROWS], tl.float32), tl.zeros([COLUMNS, ROWS], tl.float32)
    plane = size * size
    for start in range(0, n1, DEPTH):
        t = (start + inner)[None, :] * N2 + columns[:, None]
        u = split(
            load_product(
                x, x_c, x_b, x_t, x_taps, x_bias, m, m_c, m_b, m_t, m_taps, m_bias, c, b, t, length, X_TAPS, M_TAPS
            )
        )
        re = matmul(u, load_parts(level, start + inner, rows, size, plane, PARTS), re, PARTS)
        im = matmul(u, load_parts(level + 3 * plane, start + inner, rows, size, plane, PARTS), im, PARTS)
    plane = n1.to(tl.int64) * N2
    out += (c * batch + b) * 2 * plane
    place = rows[None, :] * N2 + columns[:, None]
    tl.store(out + place, re, mask=rows[None, :] < n1)
    tl.store(out + plane + place, im, mask=rows[None, :] < n1)


@triton.jit
def _last_level(
    z_f, z_f_c, g, g_c, g_b, g_t, g_taps, g_bias, y, y_c, y_b, y_t, z, z_c, z_b, z_t,
    level, size, scale, batch, length, n1,
    G_TAPS: tl.constexpr, N2: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    c, b, row, column = _columns(batch, n1, N2, ROWS, COLUMNS)
    rows, columns, inner = row + tl.arange(0, ROWS), column + tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    value = tl.zeros([COLUMNS, ROWS], tl.float32)
    plane, plane_f = size * size, n1.to(tl.int64) * N2
    level += 6 * plane
    z_f += c * z_f_c + b * 2 * plane_f
    for start in range(0, n1, DEPTH):
        k1 = start + inner
        place = k1[None, :] * N2 + columns[:, None]
        re = split(tl.load(z_f + place, mask=k1[None, :] < n1, other=0.0).to(tl.float32))
        im = split(tl.load(z_f + plane_f + place, mask=k1[None, :] < n1, other=0.0).to(tl.float32))
        value = matmul(re, load_parts(level, k1, rows, size, plane, PARTS), value, PARTS)
        value = matmul(im, load_parts(level + 3 * plane, k1, rows, size, plane, PARTS), value, PARTS)
    t = rows[None, :] * N2 + columns[:, None]
    store_product(
        value * scale, y, y_c, y_b, y_t, z, z_c, z_b, z_t, g, g_c, g_b, g_t, g_taps, g_bias, c, b, t, length, G_TAPS
    )


@triton.jit
def _shift(re, im, shift, k1, n1, SIDE: tl.constexpr):
    """Return row k1, which lies across, times the factors S."""
    i = k1 * SIDE + tl.arange(0, SIDE)
    p_re, p_im = load_complex(shift, i, n1 * SIDE)
    q_re, q_im = load_complex(shift + 2 * n1 * SIDE, i, n1 * SIDE)
    s_re, s_im = times(p_re[None, :], p_im[None, :], q_re[:, None], q_im[:, None])
    return times(re, im, s_re, s_im)


@triton.jit
def _transform(re, im, shift, matrix, twiddle, k1, n1, SIDE: tl.constexpr, PARTS: tl.constexpr):
    """Return the spectrum of row k1 of Z, which lies across."""
    re, im = _shift(re, im, shift, k1, n1, SIDE)
    re, im = complex_matmul(re, im, matrix, SIDE, PARTS)
    t_re, t_im = load_complex(twiddle, places(SIDE, SIDE), SIDE * SIDE)
    re, im = times(re, im, t_re, t_im)
    return complex_matmul(tl.trans(re), tl.trans(im), matrix, SIDE, PARTS)


@triton.jit
def _inverse(re, im, shift, matrix, twiddle, k1, n1, SIDE: tl.constexpr, PARTS: tl.constexpr):
    """Return row k1 as the last level takes it, across, from the conjugate of its spectrum."""
    re, im = complex_matmul(re, im, matrix, SIDE, PARTS)
    t_re, t_im = load_complex(twiddle, places(SIDE, SIDE), SIDE * SIDE)
    re, im = times(re, im, t_re, t_im)
    re, im = complex_matmul(tl.trans(re), tl.trans(im), matrix, SIDE, PARTS)
    return _shift(re, im, shift, k1, n1, SIDE)


@triton.jit
def _rows_spectrum(z, shift, matrix, twiddle, n1, SIDE: tl.constexpr, PARTS: tl.constexpr):
    c, k1 = (tl.program_id(0) // n1).to(tl.int64), tl.program_id(0) % n1
    plane = n1.to(tl.int64) * (SIDE * SIDE)
    z += c * 2 * plane + k1 * (SIDE * SIDE)
    re, im = load_complex(z, places_across(SIDE, SIDE), plane)
    re, im = _transform(re, im, shift, matrix, twiddle, k1, n1, SIDE, PARTS)
    store_complex(z, places(SIDE, SIDE), plane, re, im)


@triton.jit
def _rows_convolve(
    z, spectrum, shift, matrix, twiddle, batch, n1, SIDE: tl.constexpr, PARTS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) // batch  # sequences that meet the same row of a spectrum are neighbours
    c, k1, b = (row // n1).to(tl.int64), row % n1, tl.program_id(0) % batch
    plane = n1.to(tl.int64) * (SIDE * SIDE)
    z += (c * batch + b) * 2 * plane + k1 * (SIDE * SIDE)
    spectrum += c * 2 * plane + k1 * (SIDE * SIDE)
    re, im = load_complex(z, places_across(SIDE, SIDE), plane)
    re, im = _transform(re, im, shift, matrix, twiddle, k1, n1, SIDE, PARTS)
    k_re, k_im = load_complex(spectrum, places(SIDE, SIDE), plane)
    re, im = times(re, im, k_re, k_im)
    re, im = _inverse(re, -im, shift, matrix, twiddle, k1, n1, SIDE, PARTS)
    store_complex(z, places_across(SIDE, SIDE), plane, re, im)


@triton.jit
def _rows_backward(
    z, spectrum, shift, matrix, twiddle, channels, batch, n1, SIDE: tl.constexpr, PARTS: tl.constexpr
):  # fmt: skip
    """Write the rows of du over those of d, z[0], and those of dk over those of the first u, z[1, :, 0].

    Spectra wait in memory, that is in the caches, so that a transform has the registers for itself.
    """
    c, k1 = (tl.program_id(0) // n1).to(tl.int64), tl.program_id(0) % n1
    plane = n1.to(tl.int64) * (SIDE * SIDE)
    here, across = places(SIDE, SIDE), places_across(SIDE, SIDE)
    d = z + c * batch * 2 * plane + k1 * (SIDE * SIDE)
    to_u = channels.to(tl.int64) * batch * 2 * plane
    for i in range(2 * batch):
        x = d + (i // batch) * to_u + (i % batch) * 2 * plane
        re, im = load_complex(x, across, plane)
        re, im = _transform(re, im, shift, matrix, twiddle, k1, n1, SIDE, PARTS)
        store_complex(x, here, plane, re, im)
    tl.debug_barrier()
    sum_re, sum_im = tl.zeros([SIDE, SIDE], tl.float32), tl.zeros([SIDE, SIDE], tl.float32)
    for b in range(batch):
        x = d + b * 2 * plane
        d_re, d_im = load_complex(x, here, plane)
        u_re, u_im = load_complex(x + to_u, here, plane)
        re, im = times_conjugate(u_re, u_im, d_re, d_im)
        sum_re += re
        sum_im += im
        k_re, k_im = load_complex(spectrum + c * 2 * plane + k1 * (SIDE * SIDE), here, plane)
        re, im = times_conjugate(k_re, k_im, d_re, d_im)
        store_complex(x, here, plane, re, im)
    store_complex(d + to_u, here, plane, sum_re, sum_im)
    tl.debug_barrier()
    for i in range(batch + 1):
        x = d + (i // batch) * to_u + (i % batch) * 2 * plane
        re, im = load_complex(x, here, plane)
        re, im = _inverse(re, im, shift, matrix, twiddle, k1, n1, SIDE, PARTS)
        store_complex(x, across, plane, re, im)


def rows_of(length: int) -> int:
    """Return N1 for sequences of a length."""
    return int(triton.cdiv(length, SIDE * SIDE))


def tables(length: int) -> Tables:
    """Return the tables for sequences of a length, on the CPU."""
    n1, n2 = rows_of(length), SIDE * SIDE
    side = torch.arange(SIDE)
    shift = torch.stack([fft.shifts(n1, n2, at) for at in (side * SIDE, side)])
    size = triton.cdiv(n1, _row_block(n1)) * _row_block(n1)
    return Tables(fft.first_level(n1, size), shift, fft.matrix(SIDE), fft.twiddles(SIDE, SIDE))


def spectrum(out: Tensor, k: Tensor, tables: Tables, parts: int) -> None:
    """Write the spectrum of kernels k [c, L] in float32 to `out`, [c, 2, N] in float32 or bfloat16, in two launches."""
    channels, length = k.shape
    n1 = rows_of(length)
    z = out.view(channels, 1, 2, n1, -1)
    _launch_first_level(z, (Rows(k[:, None]), None), length, tables, parts)
    arguments = (z, tables.shift, tables.matrix, tables.twiddle, n1)
    launch(_rows_spectrum, (channels * n1,), arguments, reads=(z,), writes=(z,), **_row_options(parts))


def convolve(
    u: Product, spectrum: Tensor, y: Tensor, gate: Rows | None, z: Tensor | None, tables: Tables, parts: int
) -> None:
    """Compute `long_conv.convolve` in three launches."""
    channels, batch, length = y.shape
    n1 = rows_of(length)
    z_f = torch.empty(channels, batch, 2, n1, SIDE * SIDE, dtype=spectrum.dtype, device=y.device)
    _launch_first_level(z_f, u, length, tables, parts)
    arguments = (z_f, spectrum, tables.shift, tables.matrix, tables.twiddle, batch, n1)
    launch(
        _rows_convolve, (channels * batch * n1,), arguments, reads=(z_f, spectrum), writes=(z_f,), **_row_options(parts)
    )
    _launch_last_level(z_f, y, gate, z, tables, parts)


def backward(d: Product, u: Product, spectrum: Tensor, du: Tensor, dk: Tensor, tables: Tables, parts: int) -> None:
    """Compute `long_conv.convolve_backward` in five launches."""
    channels, batch, length = du.shape
    n1 = rows_of(length)
    z = torch.empty(2, channels, batch, 2, n1, SIDE * SIDE, dtype=spectrum.dtype, device=du.device)
    _launch_first_level(z[0], d, length, tables, parts)
    _launch_first_level(z[1], u, length, tables, parts)
    arguments = (z, spectrum, tables.shift, tables.matrix, tables.twiddle, channels, batch, n1)
    launch(
        _rows_backward, (channels * n1,), arguments,
        reads=(z, spectrum), writes=(z[0], z[1, :, :1]), **_row_options(parts),
    )  # fmt: skip
    _launch_last_level(z[0], du, None, None, tables, parts)
    _launch_last_level(z[1, :, :1], dk[:, None], None, None, tables, parts)


def _launch_first_level(z: Tensor, u: Product, length: int, tables: Tables, parts: int) -> None:
    channels, batch, _, n1, _ = z.shape
    arguments = (z, *operands(*u), tables.level, tables.level.shape[-1], batch, length, n1)
    launch(
        _first_level, (channels * batch * _blocks(n1),), arguments, reads=tensors_of(*u), writes=(z,),
        X_TAPS=taps_of(u[0]), M_TAPS=taps_of(u[1]), **_level_options(n1, parts),
    )  # fmt: skip


def _launch_last_level(z_f: Tensor, y: Tensor, gate: Rows | None, z: Tensor | None, tables: Tables, parts: int) -> None:
    channels, batch, length = y.shape
    n1, n2 = z_f.shape[3:]
    arguments = (
        z_f, z_f.stride(0), *operands(gate), *strided(y), *strided(z),
        tables.level, tables.level.shape[-1], 1 / (n1 * n2), batch, length, n1,
    )  # fmt: skip
    launch(
        _last_level, (channels * batch * _blocks(n1),), arguments,
        reads=(z_f, *tensors_of(gate)), writes=(y,) if z is None else (y, z),
        G_TAPS=taps_of(gate), **_level_options(n1, parts),
    )  # fmt: skip


def _row_block(n1: int) -> int:
    """Return the rows of F that a program multiplies with."""
    return min(MOST_ROWS, max(16, int(triton.next_power_of_2(n1))))


def _column_block(n1: int) -> int:
    return min(TILE // _row_block(n1), MOST_COLUMNS, SIDE * SIDE)


def _blocks(n1: int) -> int:
    """Return the programs of one sequence in the first and last level."""
    return int(triton.cdiv(n1, _row_block(n1))) * (SIDE * SIDE // _column_block(n1))


def _level_options(n1: int, parts: int) -> dict[str, int]:
    rows = _row_block(n1)
    stages = 2 if n1 > DEPTH else 1  # loads ahead cost shared memory, and a loop of one round has none
    return {
        "N2": SIDE * SIDE, "ROWS": rows, "COLUMNS": _column_block(n1), "DEPTH": min(DEPTH, rows), "PARTS": parts,
        "num_warps": WARPS, "num_stages": stages,
    }  # fmt: skip


def _row_options(parts: int) -> dict[str, int]:
    return {"SIDE": SIDE, "PARTS": parts, "num_warps": ROW_WARPS}
