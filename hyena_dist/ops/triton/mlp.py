# mypy: allow-untyped-defs, allow-incomplete-defs
"""The MLP of a narrow model in one kernel forward and one for all of backward but the weights' products over rows.

What is computed, for rows x whose D numbers fit a program's registers,

    h = layer_norm(x)        a = W1 h + c1        g = gelu(a)        y = W2 g + c2  (+ x)

Backward, from dy:

    da = (W2^T dy) gelu'(a)        dc1 = sum of da        dh = W1^T da
    dx, dw, db and dc2 = sum of dy as in `norm`

A program takes some rows and goes through the hidden layer by stretches, so forward never writes it, and backward
writes only what dW2 = dy^T g and dW1 = da^T h take: g, da, h and dy in the type of the products.

Shapes: M rows, D d_model, H hidden width, P programs.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.records import MLPWeights, NormInput
from hyena_dist.ops.triton.dot import TYPES, dot
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.linear import gelu_gate, gelu_slope, store, tile, with_bias
from hyena_dist.ops.triton.norm import add_partials, normalised, standardised, standardised_backward

WIDEST = 128
"""The largest D: of wider rows a program holds too few to share the weights that it reads, all of them."""


class MLPGradients(NamedTuple):
    """The results of `mlp_backward`, [M, D] and [M, H] in the type of the products but for x."""

    x: Tensor
    """Gradient of x, [M, D] in its type."""
    norm_weight: Tensor
    """Gradient of the norm's weight, [D]."""
    norm_bias: Tensor
    """Gradient of the norm's bias, [D]."""
    fc1_bias: Tensor
    """Gradient of the first layer's bias, [H]."""
    fc2_bias: Tensor
    """Gradient of the second layer's bias, [D]."""
    h: Tensor
    """The norm's output, [M, D]."""
    before: Tensor
    """Gradient da of the hidden layer before gelu, [M, H]."""
    hidden: Tensor
    """The hidden layer g after gelu, [M, H]."""
    dy: Tensor
    """The gradient of y, [M, D]."""


@triton.jit
def _mlp(
    x, x_m, x_d, norm_weight, norm_bias, fc1, fc1_bias, fc2, fc2_bias, y, eps, M, D, H,
    RESIDUAL: tl.constexpr, TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, COLUMNS)
    h = normalised(tile(x, m, x_m, d, x_d, M, D), norm_weight, norm_bias, d, D, eps).to(TYPE)
    value = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, H, DEPTH):
        n = first + tl.arange(0, DEPTH)
        a = dot(h, tile(fc1, d, 1, n, D, D, H), tl.zeros([ROWS, DEPTH], tl.float32), TYPE)
        a = with_bias(a, fc1_bias, n, H)
        value = dot(a * gelu_gate(a), tile(fc2, n, 1, d, H, H, D), value, TYPE)
    value = with_bias(value, fc2_bias, d, D)
    if RESIDUAL:
        value += tile(x, m, x_m, d, x_d, M, D).to(tl.float32)
    store(y, m, D, d, 1, M, D, value)


@triton.jit
def _mlp_backward(
    dy, dy_m, dy_d, x, x_m, x_d, norm_weight, norm_bias, fc1, fc1_bias, fc2, dx, h_out, da_out, g_out, dy_out,
    partials, eps, M, D, H,
    RESIDUAL: tl.constexpr, TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, COLUMNS)
    partials += tl.program_id(0).to(tl.int64) * (H + 3 * D)
    h = normalised(tile(x, m, x_m, d, x_d, M, D), norm_weight, norm_bias, d, D, eps).to(TYPE)
    store(h_out, m, D, d, 1, M, D, h)
    dy_here = tile(dy, m, dy_m, d, dy_d, M, D).to(TYPE)
    if dy_out is not None:
        store(dy_out, m, D, d, 1, M, D, dy_here)
    dh = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, H, DEPTH):
        n = first + tl.arange(0, DEPTH)
        fc1_here = tile(fc1, n, D, d, 1, H, D).to(TYPE)
        a = dot(h, tl.trans(fc1_here), tl.zeros([ROWS, DEPTH], tl.float32), TYPE)
        da = dot(dy_here, tile(fc2, d, H, n, 1, D, H), tl.zeros([ROWS, DEPTH], tl.float32), TYPE)
        a = with_bias(a, fc1_bias, n, H)
        s = gelu_gate(a)
        store(g_out, m, H, n, 1, M, H, a * s)
        da *= gelu_slope(a, s)
        store(da_out, m, H, n, 1, M, H, da)
        tl.store(partials + n, tl.sum(da, axis=0), mask=n < H)
        dh = dot(da, fc1_here, dh, TYPE)
    # Both are read again, from the cache: the loop needs the registers.
    z, rstd = standardised(tile(x, m, x_m, d, x_d, M, D).to(tl.float32), d, D, eps)
    around = tile(dy, m, dy_m, d, dy_d, M, D).to(tl.float32)
    tl.store(partials + H + d, tl.sum(dh * z, axis=0), mask=d < D)
    tl.store(partials + H + D + d, tl.sum(dh, axis=0), mask=d < D)
    tl.store(partials + H + 2 * D + d, tl.sum(around, axis=0), mask=d < D)
    value = standardised_backward(
        dh * tl.load(norm_weight + d, mask=d < D, other=0.0).to(tl.float32)[None, :], z, rstd, D
    )
    if RESIDUAL:
        value += around
    store(dx, m, D, d, 1, M, D, value)


def fits(d: int, dtype: torch.dtype) -> bool:
    """Return whether the kernels take rows of d numbers and products in a type: narrow ones, in 16 bits."""
    return d <= WIDEST and dtype.itemsize == 2


def mlp(x: Tensor, norm: NormInput, weights: MLPWeights, residual: bool, out: Tensor) -> None:
    """Write y, and x added to it if `residual`, into `out` in one launch.

    Args:
        x: [M, D] in any floating type and with any strides.
        norm: the norm before the MLP.
        weights: the MLP's layers, contiguous, in any floating type.
        residual: whether x is added.
        out: contiguous [M, D] in any floating type.
    """
    m, d = x.shape
    tiles = _tile_sizes(m, d, forward=True)
    launch(
        _mlp,
        (triton.cdiv(m, tiles["ROWS"]),),
        (x, *x.stride(), norm.weight, norm.bias, *weights, out, norm.eps, m, d, len(weights.fc1_weight)),
        reads=(x, norm.weight, norm.bias, *weights),
        writes=(out,),
        RESIDUAL=residual,
        TYPE=TYPES[norm.dtype],
        **tiles,
    )


def mlp_backward(dy: Tensor, x: Tensor, norm: NormInput, weights: MLPWeights, residual: bool) -> MLPGradients:
    """Return all gradients but those of the two weights, and what these are products of, in two launches.

    Args:
        dy: gradient of y, [M, D] in any floating type and with any strides.
        x: what `mlp` took, as the others are.
        norm: the norm before the MLP.
        weights: the MLP's layers, contiguous, in any floating type.
        residual: whether x was added to y.
    """
    m, d = x.shape
    hidden = len(weights.fc1_weight)
    tiles = _tile_sizes(m, d, forward=False)
    programs = triton.cdiv(m, tiles["ROWS"])

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    dx, h = empty(m, d, dtype=x.dtype), empty(m, d, dtype=norm.dtype)
    da, g = (empty(m, hidden, dtype=norm.dtype) for _ in range(2))
    cast = None if dy.dtype == norm.dtype else empty(m, d, dtype=norm.dtype)
    partials = empty(programs, hidden + 3 * d, dtype=torch.float32)
    launch(
        _mlp_backward,
        (programs,),
        (dy, *dy.stride(), x, *x.stride(), norm.weight, norm.bias, *weights[:3], dx, h, da, g, cast, partials,
         norm.eps, m, d, hidden),
        reads=(dy, x, norm.weight, norm.bias, *weights[:3]),
        writes=[t for t in (dx, h, da, g, cast, partials) if t is not None],
        RESIDUAL=residual,
        TYPE=TYPES[norm.dtype],
        **tiles,
    )  # fmt: skip
    fc1_bias, norm_weight, norm_bias, fc2_bias = add_partials(partials, hidden, d, d, d, dtype=norm.weight.dtype)
    return MLPGradients(dx, norm_weight, norm_bias, fc1_bias, fc2_bias, h, da, g, dy if cast is None else cast)


def _tile_sizes(m: int, d: int, forward: bool) -> dict[str, int]:
    """Return the constants: as many rows, which share the weights read, as registers hold without spilling much."""
    columns = max(16, triton.next_power_of_2(d))
    rows, depth = (128, 32) if forward or columns <= 64 else (64, 64)
    rows = min(rows, max(16, triton.next_power_of_2(m)))
    return {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth, "num_warps": 8, "num_stages": 2}
