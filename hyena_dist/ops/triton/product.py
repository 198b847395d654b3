# mypy: allow-untyped-defs, allow-incomplete-defs
"""Products of rows that may pass a short filter, and all that backward needs of one, each in one launch.

What is computed. With operands a and b, of which each is the rows r in memory or their short filter s (`conv.gates`),

    y = a b

Backward, from dy:

    da = dy b        db = dy a
    dr_t = sum over j of w_j ds_{t + (K - 1) - j}        dw_j = sum of ds_t r_{t - (K - 1) + j}        dbias = sum of ds

and dr = ds for rows as they are. Sums do not depend on the order in which programs run: each program writes its own,
and they are added up afterwards.

Shapes: c channels, B batch, L length, K taps, P programs of a channel; [c, B, L] operands may have any strides and any
floating type but float64.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.rows import Product, Rows, load_product, load_rows, operands, strided, taps_of, tensors_of

BLOCK = 1024
"""Positions of one program, a power of two: with 4 warps, each thread holds 16 bytes of a bf16 operand."""

WARPS = 4
BACKWARD_WARPS = 8
"""Warps of a program; backward holds three times as many numbers, and would take too many registers with four."""


class RowGradients(NamedTuple):
    """The gradients that are sums over batch and positions, of R rows."""

    taps: Tensor
    """Gradient of the short filters' taps, [R, K]."""
    bias: Tensor
    """Gradient of their biases, [R]."""
    rows: Tensor
    """Sum of the gradient of the rows themselves, [R]: that of a bias which was added to them."""


@triton.jit
def _place(batch, length, BLOCK: tl.constexpr):
    """Return channel and batch index of this program, in int64 as they multiply strides, and its positions.

    One axis numbers all programs: the other two axes of a grid end at 65535.
    """
    blocks = tl.cdiv(length, BLOCK)
    program = tl.program_id(0)
    row = program // blocks
    t = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    return (row // batch).to(tl.int64), (row % batch).to(tl.int64), t


@triton.jit
def _write(row, stride, t, length, value):
    tl.store(row + t.to(tl.int64) * stride, value, mask=t < length)


@triton.jit
def _product(
    a, a_c, a_b, a_t, a_taps, a_bias, b, b_c, b_b, b_t, b_taps, b_bias, y, y_c, y_b, y_t, batch, length,
    A_TAPS: tl.constexpr, B_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, i, t = _place(batch, length, BLOCK)
    value = load_product(
        a, a_c, a_b, a_t, a_taps, a_bias, b, b_c, b_b, b_t, b_taps, b_bias, c, i, t, length, A_TAPS, B_TAPS
    )
    _write(y + c * y_c + i * y_b, y_t, t, length, value)


@triton.jit
def _add_tap(dr, sums, plane, weight, r, ds, shift, K: tl.constexpr):
    """Write a program's sums for the tap that reaches back by `shift`, and return dr with what comes through it."""
    tl.store(sums + (K - 1 - shift) * plane, tl.sum(r * ds, axis=0))
    return dr + tl.load(weight + (K - 1 - shift)).to(tl.float32) * ds


@triton.jit
def _product_backward(
    d, d_c, d_b, d_t, a, a_c, a_b, a_t, a_taps, a_bias, b, b_c, b_b, b_t, b_taps, b_bias,
    da, da_c, da_b, da_t, db, db_c, db_b, db_t, y, y_c, y_b, y_t, a_sums, b_sums, plane, batch, length,
    A_TAPS: tl.constexpr, B_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, i, t = _place(batch, length, BLOCK)
    d += c * d_c + i * d_b
    programs = batch * tl.cdiv(length, BLOCK)
    mine = c * programs + tl.program_id(0) % programs
    a_sums += mine
    a_here = load_rows(a, a_c, a_b, a_t, None, None, c, i, t, length, 0)
    da_here = tl.zeros([BLOCK], tl.float32)
    if B_TAPS > 0:
        b_sums += mine
        b_here = load_rows(b, b_c, b_b, b_t, None, None, c, i, t, length, 0)
        db_here = tl.zeros([BLOCK], tl.float32)
    # What reaches a position through its filters comes from those after it.
    for shift in tl.static_range(A_TAPS):
        d_there = tl.load(d + (t + shift).to(tl.int64) * d_t, mask=t + shift < length, other=0.0).to(tl.float32)
        b_there = load_rows(b, b_c, b_b, b_t, b_taps, b_bias, c, i, t + shift, length, B_TAPS)
        ds = d_there * b_there
        da_here = _add_tap(da_here, a_sums, plane, a_taps + c * A_TAPS, a_here, ds, shift, A_TAPS)
        if shift == 0:
            tl.store(a_sums + A_TAPS * plane, tl.sum(ds, axis=0))
        if B_TAPS > 0 or shift == 0:
            a_there = load_rows(a, a_c, a_b, a_t, a_taps, a_bias, c, i, t + shift, length, A_TAPS)
            ds = d_there * a_there
            if B_TAPS > 0:
                db_here = _add_tap(db_here, b_sums, plane, b_taps + c * B_TAPS, b_here, ds, shift, B_TAPS)
                if shift == 0:
                    tl.store(b_sums + B_TAPS * plane, tl.sum(ds, axis=0))
            elif db is not None:
                _write(db + c * db_c + i * db_b, db_t, t, length, ds)
            if y is not None and shift == 0:
                _write(y + c * y_c + i * y_b, y_t, t, length, a_there * b_there)
    _write(da + c * da_c + i * da_b, da_t, t, length, da_here)
    tl.store(a_sums + (A_TAPS + 1) * plane, tl.sum(da_here, axis=0))
    if B_TAPS > 0:
        _write(db + c * db_c + i * db_b, db_t, t, length, db_here)
        tl.store(b_sums + (B_TAPS + 1) * plane, tl.sum(db_here, axis=0))


@triton.jit
def _add_sums(sums, taps, bias, rows, count, programs, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    for k in tl.static_range(K + 2):
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, programs, BLOCK):
            p = first + tl.arange(0, BLOCK)
            total += tl.load(sums + (k * count + row) * programs + p, mask=p < programs, other=0.0)
        out = taps + row * K + k
        if k == K:
            out = bias + row
        if k == K + 1:
            out = rows + row
        tl.store(out, tl.sum(total, axis=0))


def product(rows: Product, out: Tensor) -> None:
    """Write the product of one or two operands to `out` [c, B, L], which shares no memory with filtered rows."""
    a, b = rows
    launch(
        _product,
        (out.shape[0] * _programs(out),),
        (*operands(a, b), *strided(out), *out.shape[1:]),
        reads=tensors_of(a, b),
        writes=(out,),
        A_TAPS=taps_of(a),
        B_TAPS=taps_of(b),
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def empty_sums(rows: Tensor, channels: int, taps: int) -> Tensor:
    """Return memory for the programs' sums over rows like these [c, B, L], [K + 2, channels, P] in float32.

    They are those of the K taps, of the filter's bias, and of the gradient of the rows themselves.
    """
    return torch.empty((taps + 2, channels, _programs(rows)), dtype=torch.float32, device=rows.device)


def product_backward(
    dy: Tensor,
    a: Rows,
    b: Rows,
    da: Tensor,
    db: Tensor | None,
    a_sums: Tensor,
    b_sums: Tensor | None = None,
    y: Tensor | None = None,
) -> None:
    """Write the gradients of the rows of both operands of a product, the programs' sums and maybe the product itself.

    Args:
        dy: gradient of the product, [c, B, L].
        a: the first operand, short-filtered.
        b: the second operand; if it is filtered, then by as many taps.
        da: memory for the gradient of a's rows, [c, B, L]; like all that is written it shares none with what is read.
        db: memory for that of b's rows, [c, B, L]; needed if b is filtered.
        a_sums: memory for the sums of a, c of the channels of `empty_sums`.
        b_sums: the same for b, of the same tensor; only if b is filtered.
        y: memory for the product, [c, B, L].
    """
    assert taps_of(b) in (0, taps_of(a))
    assert taps_of(b) == 0 or (db is not None and b_sums is not None and b_sums.stride() == a_sums.stride())
    written = [t for t in (da, db, y, a_sums, b_sums) if t is not None]
    launch(
        _product_backward,
        (dy.shape[0] * _programs(dy),),
        (
            *strided(dy), *operands(a, b), *strided(da), *strided(db), *strided(y), a_sums, b_sums, a_sums.stride(0),
            *dy.shape[1:],
        ),
        reads=(dy, *tensors_of(a, b)),
        writes=written,
        A_TAPS=taps_of(a),
        B_TAPS=taps_of(b),
        BLOCK=BLOCK,
        num_warps=BACKWARD_WARPS,
    )  # fmt: skip


def add_sums(sums: Tensor, dtype: torch.dtype) -> RowGradients:
    """Return the sums over the programs of `empty_sums` [K + 2, R, P] in a type, in one launch."""
    taps, count, programs = sums.shape[0] - 2, *sums.shape[1:]
    shapes = (count, taps), (count,), (count,)
    total = RowGradients(*(torch.empty(shape, dtype=dtype, device=sums.device) for shape in shapes))
    launch(
        _add_sums,
        (count,),
        (sums, *total, count, programs),
        reads=(sums,),
        writes=total,
        K=taps,
        BLOCK=512,
        num_warps=4,
    )
    return total


def _programs(rows: Tensor) -> int:
    """Return P, the number of programs that take one channel of rows [c, B, L]."""
    _, batch, length = rows.shape
    return batch * int(triton.cdiv(length, BLOCK))
