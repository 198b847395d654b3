# mypy: allow-untyped-defs, allow-incomplete-defs
"""The tied head of few tokens with the cross-entropy, in one kernel: logits are never in memory.

What is computed. For the norm's output h and the target j of a row,

    l = W h        nll = log(sum over v of exp(l_v)) - l_j,  and 0 where j is negative

Backward, from d (the gradient of nll, 0 where j is negative):

    dl = d (softmax(l) - onehot(j))

Shapes: M rows, D d_model, V padded vocabulary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.records import NormInput
from hyena_dist.ops.triton.dot import TYPES, dot
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.linear import WIDEST_ROW, store, tile
from hyena_dist.ops.triton.norm import normalised, standardise

LARGEST_VOCABULARY = 64
"""The most columns of logits that a program holds in its registers."""


@triton.jit
def _head(
    x, x_m, x_d, norm_weight, norm_bias, weight, targets, target_m, d_nll, d_nll_m, out, eps, M, D, V, vocab_size,
    TYPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    v = tl.arange(0, COLUMNS)
    logits = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, D, DEPTH):
        d = first + tl.arange(0, DEPTH)
        h = tile(x, m, x_m, d, x_d, M, D)
        if norm_weight is not None:  # DEPTH is at least D
            h = normalised(h, norm_weight, norm_bias, d, D, eps)
        logits = dot(h, tile(weight, d, 1, v, D, D, V), logits, TYPE)
    logits = tl.where((v < vocab_size)[None, :], logits, float("-inf"))
    target = tl.load(targets + m.to(tl.int64) * target_m, mask=m < M, other=-1)
    of_target = v[None, :] == target[:, None]
    logits -= tl.max(logits, axis=1)[:, None]
    weights = tl.exp(logits)
    total = tl.sum(weights, axis=1)
    if d_nll is None:
        nll = tl.log(total) - tl.sum(tl.where(of_target, logits, 0.0), axis=1)
        tl.store(out + m, tl.where(target < 0, 0.0, nll), mask=m < M)
    else:
        scale = tl.load(d_nll + m.to(tl.int64) * d_nll_m, mask=(m < M) & (target >= 0), other=0.0).to(tl.float32)
        d_logits = scale[:, None] * (weights / total[:, None] - of_target.to(tl.float32))
        store(out, m, V, v, 1, M, V, d_logits)


def head_nll(x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """Return nll [M] in float32, in one launch (in float32 or above `WIDEST_ROW` in two).

    Args:
        x: [M, D] in any floating type and with any strides.
        norm: the final norm; the product is in the type of its output.
        weight: W, contiguous [V, D] in any floating type, V at most `LARGEST_VOCABULARY`.
        targets: [M] int64, below vocab_size.
        vocab_size: columns of the logits from here on take no probability.
    """
    nll = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _run(x, norm, weight, targets, vocab_size, None, nll)
    return nll


def logits_backward(
    d_nll: Tensor, x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    """Return the gradient dl [M, V] of the logits in the norm's type, from d_nll [M]; else as `head_nll`."""
    d_logits = torch.empty((len(x), len(weight)), dtype=norm.dtype, device=x.device)
    _run(x, norm, weight, targets, vocab_size, d_nll, d_logits)
    return d_logits


def _run(
    x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int, d_nll: Tensor | None, out: Tensor
) -> None:
    m, d = x.shape
    apart = d > WIDEST_ROW or norm.dtype == torch.float32
    if apart:
        x = standardise(x[:, None], norm)[:, 0]
    parameters = (None, None) if apart else (norm.weight, norm.bias)
    depth = 64 if apart else max(16, triton.next_power_of_2(d))
    launch(
        _head,
        (triton.cdiv(m, 64),),
        (x, *x.stride(), *parameters, weight, targets, targets.stride(0), d_nll,
         0 if d_nll is None else d_nll.stride(0), out, norm.eps, m, d, len(weight), vocab_size),
        reads=[t for t in (x, *parameters, weight, targets, d_nll) if t is not None],
        writes=(out,),
        TYPE=TYPES[norm.dtype],
        ROWS=64,
        COLUMNS=max(16, triton.next_power_of_2(len(weight))),
        DEPTH=depth,
        num_warps=4 if depth <= 128 else 8,
        num_stages=2 if apart else 1,
    )  # fmt: skip
