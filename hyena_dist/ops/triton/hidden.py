# mypy: allow-untyped-defs, allow-incomplete-defs
"""The hidden layer of an MLP in backward: two products and the derivative of gelu in one kernel.

What is computed, from the norm's output h and the gradient dy of the MLP's output,

    a = W1 h + c1        g = gelu(a)
    da = (W2^T dy) gelu'(a)        dc1 = sum of da

so that neither a nor the gradient of g is ever in memory: g and da are written for the products that take them, dW2 =
dy^T g, dW1 = da^T h and dh = da W1.

Shapes: M rows, D d_model, H hidden width.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.records import MLPWeights
from hyena_dist.ops.triton.dot import TYPES, dot
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.linear import gelu_gate, gelu_slope, grid, place, store, tile, with_bias


class HiddenGradients(NamedTuple):
    """The results of `hidden_backward`."""

    value: Tensor
    """The hidden layer g after gelu, [M, H] in the type of h."""
    before: Tensor
    """Gradient da of the hidden layer before gelu, [M, H] in the type of h."""
    bias: Tensor
    """Gradient of the first layer's bias, [H] in its type."""


@triton.jit
def _hidden_backward(
    h, dy, fc1, fc1_bias, fc2, g, da, partials, M, H, D,
    TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    m, _, n = place(M, H, ROWS, COLUMNS)
    a = tl.zeros([ROWS, COLUMNS], tl.float32)
    dg = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, D, DEPTH):
        d = first + tl.arange(0, DEPTH)
        a = dot(tile(h, m, D, d, 1, M, D), tile(fc1, d, 1, n, D, D, H), a, TYPE)
        dg = dot(tile(dy, m, D, d, 1, M, D), tile(fc2, d, H, n, 1, D, H), dg, TYPE)
    a = with_bias(a, fc1_bias, n, H)
    s = gelu_gate(a)
    store(g, m, H, n, 1, M, H, a * s)
    dg *= gelu_slope(a, s)
    store(da, m, H, n, 1, M, H, dg)
    block = (tl.program_id(0) // tl.cdiv(H, COLUMNS)).to(tl.int64)
    tl.store(partials + block * H + n, tl.sum(dg, axis=0), mask=n < H)


def hidden_backward(h: Tensor, dy: Tensor, weights: MLPWeights) -> HiddenGradients:
    """Return what the MLP's backward needs of its hidden layer, in two launches.

    Args:
        h: the norm's output, contiguous [M, D] in the type of the products.
        dy: gradient of the MLP's output, contiguous [M, D] in the same type.
        weights: the MLP's layers, contiguous, in any floating type.
    """
    m, d = h.shape
    hidden = len(weights.fc1_weight)
    g, da = (torch.empty((m, hidden), dtype=h.dtype, device=h.device) for _ in range(2))
    tiles = _tile_sizes(m, hidden, h.dtype)
    partials = torch.empty((triton.cdiv(m, tiles["ROWS"]), hidden), dtype=torch.float32, device=h.device)
    launch(
        _hidden_backward,
        (grid(g[:, None], tiles),),
        (h, dy, *weights[:3], g, da, partials, m, hidden, d),
        reads=(h, dy, *weights[:3]),
        writes=(g, da, partials),
        TYPE=TYPES[h.dtype],
        **tiles,
    )
    return HiddenGradients(g, da, partials.sum(0).to(weights.fc1_bias.dtype))


def _tile_sizes(m: int, hidden: int, dtype: torch.dtype) -> dict[str, int]:
    wide = dtype == torch.float32
    rows = min(64 if wide else 128, max(16, triton.next_power_of_2(m)))
    columns = min(32 if wide else 64, max(16, triton.next_power_of_2(hidden)))
    return {"ROWS": rows, "COLUMNS": columns, "DEPTH": 32 if wide else 64, "num_warps": 8, "num_stages": 2}
