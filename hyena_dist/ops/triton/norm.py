# mypy: allow-untyped-defs, allow-incomplete-defs
"""LayerNorm and its gradient, each in one pass over memory.

What is computed. For each row x of D numbers, with weight w and bias b,

    z = (x - mean) rstd        mean and variance over D,  rstd = 1 / sqrt(variance + eps)
    h = w z + b

Backward, from dh:

    dz = w dh
    dx = rstd (dz - mean_D(dz) - z mean_D(dz z))  (+ dy, for a norm in a branch beside a residual stream)
    dw = sum over the rows of (dh z)        db = sum of dh        dc = sum of dy

A row lies in one program's registers as a whole, so its moments cost nothing beside reading it, and are not kept. Sums
over rows are made in a fixed order: each program adds up its rows, and `add_partials` adds up the programs.

Shapes: S positions, B batch, D d_model, P programs. Operands [S, B, D] may have any strides.

Source: Ba et al., Layer Normalization (arXiv 1607.06450). Plain reference: `hyena_dist.ops.reference.norm`.
"""

import itertools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.records import NormInput
from hyena_dist.ops.triton.launch import launch

BLOCK = 2048
"""Numbers that a program holds of each operand: whole rows, at least one."""

WIDEST = 4096
"""The largest D for which a row fits the registers of a program."""

PROGRAMS = 512
"""The most programs that sum over rows: a few for each processor of a GPU."""


class NormGradients(NamedTuple):
    """The results of `norm_backward`."""

    x: Tensor
    """Gradient of x, [S, B, D] in its type and in memory as x is."""
    weight: Tensor
    """Gradient of the norm's weight, [D] in its type."""
    bias: Tensor
    """Gradient of the norm's bias, [D] in its type."""
    dy_sum: Tensor
    """Sum dc over all rows of dy, [D] in the type of the norm's weight; 0 without dy."""


@triton.jit
def standardised(x, d, D, eps):
    """Return (x - mean) rstd [rows, columns], 0 at columns d >= D, and rstd [rows], for x that is 0 there too."""
    mean = tl.sum(x, axis=1) / D
    centred = tl.where((d < D)[None, :], x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / D + eps)
    return centred * rstd[:, None], rstd


@triton.jit
def standardised_backward(dz, z, rstd, D):
    """Return the gradient of x from that of z, where (z, rstd) is `standardised(x, ...)`."""
    return rstd[:, None] * (dz - (tl.sum(dz, axis=1) / D)[:, None] - z * (tl.sum(dz * z, axis=1) / D)[:, None])


@triton.jit
def normalised(x, weight, bias, d, D, eps):
    """Return the norm's output for x [rows, columns], which is 0 at columns d >= D, as this is; in float32."""
    z, _ = standardised(x.to(tl.float32), d, D, eps)
    w = tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    return z * w[None, :] + tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _at(m, d, batch, s_stride, b_stride, d_stride):
    """Return the offsets of rows m = s * batch + b and columns d."""
    s, b = (m // batch).to(tl.int64), (m % batch).to(tl.int64)
    return (s * s_stride + b * b_stride)[:, None] + d.to(tl.int64)[None, :] * d_stride


@triton.jit
def _standardise(
    x, x_s, x_b, x_d, dy, dy_s, dy_b, dy_d, weight, bias, h, cast, h_s, h_b, eps, batch, M, D,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, COLUMNS)
    inside = (m < M)[:, None] & (d < D)[None, :]
    here = _at(m, d, batch, h_s, h_b, 1)
    value = tl.load(x + _at(m, d, batch, x_s, x_b, x_d), mask=inside, other=0.0)
    tl.store(h + here, normalised(value, weight, bias, d, D, eps), mask=inside)
    if cast is not None:
        tl.store(cast + here, tl.load(dy + _at(m, d, batch, dy_s, dy_b, dy_d), mask=inside), mask=inside)


@triton.jit
def _norm_backward(
    dh, dh_s, dh_b, dh_d, x, x_s, x_b, x_d, dy, dy_s, dy_b, dy_d, weight, dx, dx_s, dx_b, dx_d,
    partials, eps, batch, M, D,
    RESIDUAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, COLUMNS)
    w = tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    dw_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    db_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    dy_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(tl.program_id(0) * ROWS, M, tl.num_programs(0) * ROWS):
        m = first + tl.arange(0, ROWS)
        inside = (m < M)[:, None] & (d < D)[None, :]
        value = tl.load(x + _at(m, d, batch, x_s, x_b, x_d), mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(dh + _at(m, d, batch, dh_s, dh_b, dh_d), mask=inside, other=0.0).to(tl.float32)
        z, rstd = standardised(value, d, D, eps)
        dw_sum += gradient * z
        db_sum += gradient
        dz = gradient * w[None, :]
        value = standardised_backward(dz, z, rstd, D)
        if dy is not None:
            around = tl.load(dy + _at(m, d, batch, dy_s, dy_b, dy_d), mask=inside, other=0.0).to(tl.float32)
            dy_sum += around
            if RESIDUAL:
                value += around
        tl.store(dx + _at(m, d, batch, dx_s, dx_b, dx_d), value, mask=inside)
    partials += tl.program_id(0) * 3 * D + d
    tl.store(partials, tl.sum(dw_sum, axis=0), mask=d < D)
    tl.store(partials + D, tl.sum(db_sum, axis=0), mask=d < D)
    tl.store(partials + 2 * D, tl.sum(dy_sum, axis=0), mask=d < D)


@triton.jit
def _add_partials(
    partials, first, second, third, fourth, end1, end2, end3, end4, P, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for p in range(0, P, ROWS):
        row = p + tl.arange(0, ROWS)
        inside = (row < P)[:, None] & (c < end4)[None, :]
        total += tl.load(partials + row.to(tl.int64)[:, None] * end4 + c[None, :], mask=inside, other=0.0)
    value = tl.sum(total, axis=0)
    tl.store(first + c, value, mask=c < end1)
    tl.store(second + c - end1, value, mask=(c >= end1) & (c < end2))
    tl.store(third + c - end2, value, mask=(c >= end2) & (c < end3))
    tl.store(fourth + c - end3, value, mask=(c >= end3) & (c < end4))


def standardise(x: Tensor, norm: NormInput, batch_first: bool = False) -> Tensor:
    """Return the norm's output h [S, B, D] in the norm's type, of x [S, B, D] in any.

    It is contiguous; if `batch_first`, it is a view of contiguous [B, S, D], to be multiplied with [N, B, S].
    """
    return _run_standardise(x, norm, None, batch_first)[0]


def standardise_and_cast(x: Tensor, norm: NormInput, dy: Tensor, batch_first: bool = False) -> tuple[Tensor, Tensor]:
    """Return `standardise(...)` and dy [S, B, D] in the same type and layout, maybe dy itself, in one launch."""
    h, cast = _run_standardise(x, norm, dy, batch_first)
    return h, dy if cast is None else cast


def _run_standardise(x: Tensor, norm: NormInput, dy: Tensor | None, batch_first: bool) -> tuple[Tensor, Tensor | None]:
    """Return h, and dy in the type and layout of h where it has not got them."""
    s, batch, d = x.shape
    shape = (batch, s, d) if batch_first else (s, batch, d)
    memory = torch.empty(shape, dtype=norm.dtype, device=x.device)
    h = memory.transpose(0, 1) if batch_first else memory
    if dy is not None and dy.dtype == h.dtype and dy.stride() == h.stride():
        dy = None
    cast = torch.empty_like(h) if dy is not None else None
    columns = triton.next_power_of_2(d)
    rows = max(1, BLOCK // columns)
    other = (dy, *dy.stride()) if dy is not None else (None, 0, 0, 0)
    launch(
        _standardise,
        (triton.cdiv(s * batch, rows),),
        (x, *x.stride(), *other, norm.weight, norm.bias, h, cast, *h.stride()[:2], norm.eps, batch, s * batch, d),
        reads=[t for t in (x, dy, norm.weight, norm.bias) if t is not None],
        writes=[t for t in (h, cast) if t is not None],
        ROWS=rows,
        COLUMNS=columns,
        num_warps=4,
    )
    return h, cast


def norm_backward(
    dh: Tensor, x: Tensor, norm: NormInput, dy: Tensor | None = None, residual: bool = True
) -> NormGradients:
    """Return the gradients of the norm's input, weight and bias, in two launches.

    Args:
        dh: gradient of the norm's output, [S, B, D] in any floating type.
        x: the norm's input, [S, B, D].
        norm: the norm.
        dy: gradient of the output of the branch that begins with the norm, [S, B, D]; its sum over all rows is the
            gradient of the bias that ends the branch.
        residual: whether x was added to the output, and so dy is added to the gradient of x.
    """
    s, batch, d = x.shape
    dx = torch.empty_like(x)
    columns = triton.next_power_of_2(d)
    rows = max(1, BLOCK // columns)
    programs = min(PROGRAMS, triton.cdiv(s * batch, rows))
    partials = torch.empty((programs, 3 * d), dtype=torch.float32, device=x.device)
    around = (dy, *dy.stride()) if dy is not None else (None, 0, 0, 0)
    operands = dh, *dh.stride(), x, *x.stride(), *around
    launch(
        _norm_backward,
        (programs,),
        (*operands, norm.weight, dx, *dx.stride(), partials, norm.eps, batch, s * batch, d),
        reads=[t for t in (dh, x, norm.weight, dy) if t is not None],
        writes=(dx, partials),
        RESIDUAL=residual,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=8,
    )
    return NormGradients(dx, *add_partials(partials, d, d, d, dtype=norm.weight.dtype))


def add_partials(partials: Tensor, *sizes: int, dtype: torch.dtype) -> list[Tensor]:
    """Return the sums over the programs of partials [P, N], in a type and split by up to four sizes.

    Each sum is in memory of its own, which torch asks of an operator's results.
    """
    sums = [torch.empty(size, dtype=dtype, device=partials.device) for size in sizes]
    p, n = partials.shape
    ends = list(itertools.accumulate(sizes))
    launch(
        _add_partials,
        (triton.cdiv(n, 16),),
        (partials, *(sums + sums[-1:] * 3)[:4], *(ends + ends[-1:] * 3)[:4], p),
        reads=(partials,),
        writes=sums,
        ROWS=128,
        COLUMNS=16,
        num_warps=4,
    )
    return sums
