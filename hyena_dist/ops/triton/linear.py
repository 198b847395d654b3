# mypy: allow-untyped-defs, allow-incomplete-defs
"""Dense layers with what comes before and after them in the same kernel.

What is computed, for each row a (a position of a sequence), with float32 parameters that are converted in the kernel:

    norm_linear:  out = W layer_norm(a) + c, through gelu if asked for
    linear:       out = W a + c + plus

Operands are views [S, B, K] and [S, B, N] with any strides: channels first, positions contiguous ([K, B, S] in memory)
is `.permute(2, 1, 0)`, and nothing is transposed or copied. A program makes a tile of positions of one sequence times
rows of W; programs that share positions follow each other, so these come from the cache. Backward is in other layers'
terms: the gradient of a is `linear(dout, W.t())`, that of W a plain product over all rows.

Shapes: S positions, B batch, K inputs, N outputs.

Source of gelu: Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv 1606.08415), the tanh form.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.records import NormInput
from hyena_dist.ops.triton.dot import TYPES, dot
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.norm import normalised, standardise

WIDEST_ROW = 256
"""The largest K that `norm_linear` normalises within the product, in 16 bits: rows have to fit registers and shared
memory. Beyond it, and in float32, the norm is a launch of its own, which a wider product hides."""

PROGRAMS = 256
"""Programs that fill a GPU: with more blocks of rows, a program of `norm_linear` makes all outputs of its rows."""

_LINEAR = tl.constexpr(1.5957691216057308)
"""The p = 2 sqrt(2 / pi) of gelu(a) = a * sigmoid(p * (a + q * a**3))."""

_CUBIC = tl.constexpr(0.044715)
"""The q of gelu(a) = a * sigmoid(p * (a + q * a**3))."""


@triton.jit
def gelu_gate(a):
    """Return the sigmoid s of gelu(a) = a s."""
    return tl.sigmoid((a + a * a * a * _CUBIC) * _LINEAR)


@triton.jit
def gelu_slope(a, s):
    """Return the derivative of gelu(a) = a s, where s is `gelu_gate(a)`."""
    return s + a * s * (1.0 - s) * (1.0 + a * a * _CUBIC * 3.0) * _LINEAR


@triton.jit
def place(S, N, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return this program's positions s, its sequence b (int64, as it multiplies strides) and its outputs n."""
    blocks = tl.cdiv(N, COLUMNS)
    program = tl.program_id(0)
    n = (program % blocks) * COLUMNS + tl.arange(0, COLUMNS)
    program //= blocks
    blocks = tl.cdiv(S, ROWS)
    s = (program % blocks) * ROWS + tl.arange(0, ROWS)
    return s, (program // blocks).to(tl.int64), n


@triton.jit
def tile(x, rows, row_stride, columns, column_stride, R, C):
    """Return x[rows, columns], 0 where row >= R or column >= C."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(x + at, mask=(rows < R)[:, None] & (columns < C)[None, :], other=0.0)


@triton.jit
def store(x, rows, row_stride, columns, column_stride, R, C, value):
    """Write x[rows, columns] where row < R and column < C."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    tl.store(x + at, value, mask=(rows < R)[:, None] & (columns < C)[None, :])


@triton.jit
def with_bias(value, bias, n, N):
    """Return value [rows, n] plus bias [n], or value alone where bias is None."""
    if bias is not None:
        value += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    return value


@triton.jit
def _linear(
    a, a_s, a_b, a_k, weight, w_n, w_k, bias, plus, p_s, p_b, p_n, out, o_s, o_b, o_n, S, N, K,
    GELU: tl.constexpr, TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    s, b, n = place(S, N, ROWS, COLUMNS)
    value = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, K, DEPTH):
        k = first + tl.arange(0, DEPTH)
        left = tile(a + b * a_b, s, a_s, k, a_k, S, K)
        value = dot(left, tile(weight, k, w_k, n, w_n, K, N), value, TYPE)
    value = with_bias(value, bias, n, N)
    if GELU:
        value *= gelu_gate(value)
    if plus is not None:
        value += tile(plus + b * p_b, s, p_s, n, p_n, S, N).to(tl.float32)
    store(out + b * o_b, s, o_s, n, o_n, S, N, value)


@triton.jit
def _norm_linear(
    x, x_s, x_b, x_k, norm_weight, norm_bias, weight, w_n, w_k, bias, out, o_s, o_b, o_n, eps, S, N, K, each,
    GELU: tl.constexpr, TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    groups = tl.cdiv(N, each)
    blocks = tl.cdiv(S, ROWS)
    first = tl.program_id(0) % groups * each
    row = tl.program_id(0) // groups
    s, b = row % blocks * ROWS + tl.arange(0, ROWS), (row // blocks).to(tl.int64)
    k = tl.arange(0, DEPTH)
    h = normalised(tile(x + b * x_b, s, x_s, k, x_k, S, K), norm_weight, norm_bias, k, K, eps).to(TYPE)
    for column in range(first, tl.minimum(first + each, N), COLUMNS):
        n = column + tl.arange(0, COLUMNS)
        value = dot(h, tile(weight, k, w_k, n, w_n, K, N), tl.zeros([ROWS, COLUMNS], tl.float32), TYPE)
        value = with_bias(value, bias, n, N)
        if GELU:
            value *= gelu_gate(value)
        store(out + b * o_b, s, o_s, n, o_n, S, N, value)


def norm_linear(
    x: Tensor, norm: NormInput, weight: Tensor, bias: Tensor | None, out: Tensor, gelu: bool = False
) -> Tensor:
    """Write layer_norm(x) W^T + c into `out` and return it, in one launch (in float32 or above `WIDEST_ROW` in two).

    Args:
        x: [S, B, K] in any floating type, a view with any strides.
        norm: the norm over K; the product is in the type of its output.
        weight: W [N, K] in any floating type, with any strides.
        bias: c [N], or None for 0.
        out: [S, B, N] in any floating type, a view with any strides.
        gelu: apply gelu (tanh form) before writing.
    """
    k = x.shape[2]
    if k > WIDEST_ROW or norm.dtype == torch.float32:
        return _run_linear(standardise(x, norm), weight, bias, None, out, gelu)
    s, b, n = out.shape
    depth = max(16, triton.next_power_of_2(k))
    tiles = tile_sizes(out, most=128) | {"COLUMNS": 64, "DEPTH": depth, "num_warps": 8, "num_stages": 2}
    blocks = b * int(triton.cdiv(s, tiles["ROWS"]))
    each = 64 * int(triton.cdiv(triton.cdiv(n, 64) * blocks, max(blocks, PROGRAMS)))
    launch(
        _norm_linear,
        (blocks * triton.cdiv(n, each),),
        (x, *x.stride(), norm.weight, norm.bias, weight, *weight.stride(), bias, out, *out.stride(), norm.eps,
         s, n, k, each),
        reads=[t for t in (x, norm.weight, norm.bias, weight, bias) if t is not None],
        writes=(out,),
        GELU=gelu,
        TYPE=TYPES[norm.dtype],
        **tiles,
    )  # fmt: skip
    return out


def linear(a: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, plus: Tensor | None = None) -> Tensor:
    """Write a W^T + c + plus into `out` and return it, in one launch; the product is in the type of a.

    Args:
        a: [S, B, K] in float32, bf16 or fp16, a view with any strides.
        weight: W [N, K] in any floating type, with any strides.
        bias: c [N], or None for 0.
        out: [S, B, N] in any floating type, a view with any strides; it may be `plus`.
        plus: what is added, [S, B, N] with any strides (the residual stream), or None.
    """
    return _run_linear(a, weight, bias, plus, out, gelu=False)


def _run_linear(a: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None, out: Tensor, gelu: bool) -> Tensor:
    around = (plus, *plus.stride()) if plus is not None else (None, 0, 0, 0)
    wide = a.dtype == torch.float32
    tiles = tile_sizes(out, most=64 if wide else 128) | {"DEPTH": 32 if wide else 64}
    launch(
        _linear,
        (grid(out, tiles),),
        (a, *a.stride(), weight, *weight.stride(), bias, *around, out, *out.stride(), *out.shape[::2], a.shape[2]),
        reads=[t for t in (a, weight, bias, plus) if t is not None],
        writes=(out,),
        GELU=gelu,
        TYPE=TYPES[a.dtype],
        **tiles,
    )
    return out


def tile_sizes(out: Tensor, most: int) -> dict[str, int]:
    """Return the constants of a kernel that makes out [S, B, N] by tiles of at most `most` rows and columns."""
    s, _, n = out.shape
    rows, columns = (min(most, max(16, triton.next_power_of_2(size))) for size in (s, n))
    return {"ROWS": rows, "COLUMNS": columns, "num_warps": 8 if rows * columns > 64 * 64 else 4, "num_stages": 3}


def grid(out: Tensor, tiles: dict[str, int]) -> int:
    """Return the number of programs that make out [S, B, N] by tiles."""
    s, b, n = out.shape
    return b * int(triton.cdiv(s, tiles["ROWS"])) * int(triton.cdiv(n, tiles["COLUMNS"]))
