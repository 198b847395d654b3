# mypy: allow-untyped-defs, allow-incomplete-defs
"""Dropout whose mask is a pure function of numbers that say what is dropped, so that nothing is kept for backward.

Formula, for position t, sample b and feature d, with n = ceil(D / 16) counters a position:
    u[0..15] = Philox4x64-10(counter = t n + floor(d / 16) + 1, key = (seed_b, site)), in 16-bit parts, the lowest first
    y = residual + x / (1 - p) where u[d mod 16] >= p 2^16 (rounded), else residual
The gradient of x is the same function of dy, without a residual; that of the residual is dy.

Shapes: R positions, B batch, D features; operands [R, B, D] with any strides.
Source: Philox is Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). numpy.random.Philox gives the
same words: it adds 1 to its counter before each draw.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.triton.launch import launch

COUNTERS = 128
"""Counters of one program, a power of two: with 4 warps, each thread makes the 16 elements of one."""

WARPS = 4


@triton.jit
def _numbers(counter, seed, site):
    """Return the sixteen 16-bit numbers of each counter: [ROWS, COLUMNS] -> [ROWS, 16 COLUMNS], uint32."""
    zero = tl.zeros_like(counter)
    a, b, c, d = tl.philox_impl(counter, zero, zero, zero, seed, site)
    words = tl.join(tl.join(a, c), tl.join(b, d))  # the last axis varies fastest: a, b, c, d
    halves = tl.join(words.to(tl.uint32), (words >> 32).to(tl.uint32))
    quarters = tl.join(halves & 0xFFFF, halves >> 16)
    return tl.reshape(quarters, [counter.shape[0], 16 * counter.shape[1]])


@triton.jit(do_not_specialize=["site", "first"])
def _dropout(
    x, x_r, x_b, x_d, residual, residual_r, residual_b, residual_d, y, seeds, site, first, rows, batch, features,
    THRESHOLD: tl.constexpr, SCALE: tl.constexpr, ADD: tl.constexpr, WORK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    r, b = (row // batch).to(tl.int64), (row % batch).to(tl.int64)
    seed = tl.load(seeds + b, mask=row < rows, other=0).to(tl.uint64)
    counter = (first + r) * tl.cdiv(features, 16) + 1
    numbers = _numbers(
        (counter[:, None] + tl.arange(0, COLUMNS)[None, :]).to(tl.uint64),
        tl.broadcast_to(seed[:, None], [ROWS, COLUMNS]),
        tl.full([ROWS, COLUMNS], site, tl.uint64),
    )
    d = tl.arange(0, 16 * COLUMNS)[None, :]
    held = (row < rows)[:, None] & (d < features)
    value = tl.load(x + (r * x_r + b * x_b)[:, None] + d.to(tl.int64) * x_d, mask=held, other=0.0).to(WORK)
    value = tl.where(numbers >= THRESHOLD, value * SCALE, 0.0)
    if ADD:
        at = (r * residual_r + b * residual_b)[:, None] + d.to(tl.int64) * residual_d
        value += tl.load(residual + at, mask=held, other=0.0).to(WORK)
    tl.store(y + row.to(tl.int64)[:, None] * features + d, value, mask=held)


def dropout(
    x: Tensor,
    seeds: Tensor,
    site: int,
    first: int,
    p: float,
    dtype: torch.dtype,
    residual: Tensor | None = None,
) -> Tensor:
    """Return x with values dropped, added to a residual if there is one, in one launch.

    Args:
        x: [R, B, D] of any floating type; float64 is computed in float64, all else in float32.
        seeds: one per sample, int64 [B], on the device of x.
        site: a number that no other dropout of the model has.
        first: the number of the first of the R positions.
        p: probability with which a value is dropped.
        dtype: the type of the result.
        residual: [R, B, D] of any floating type.

    Returns:
        A contiguous tensor [R, B, D].
    """
    positions, batch, features = x.shape
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    columns = triton.next_power_of_2(triton.cdiv(features, 16))
    rows = max(1, COUNTERS // columns)
    given = (x,) if residual is None else (x, residual)
    other = given[-1]
    launch(
        _dropout,
        (triton.cdiv(positions * batch, rows),),
        (x, *x.stride(), other, *other.stride(), y, seeds, site, first, positions * batch, batch, features),
        reads=(*given, seeds),
        writes=(y,),
        THRESHOLD=round(p * 2**16),
        SCALE=1 / (1 - p),
        ADD=residual is not None,
        WORK=tl.float64 if x.dtype == torch.float64 else tl.float32,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=WARPS,
    )
    return y
