"""Final norm, tied head and cross-entropy in one function, by stretches of positions, that keeps its input alone.

Logits and their gradient are in memory for one stretch only.

Shapes: D d_model, V padded vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from hyena_dist.ops.conv.gates import real
from hyena_dist.ops.differentiable_once import differentiable_once
from hyena_dist.ops.fused.buffer_pool import new_empty
from hyena_dist.ops.fused.norm import NormInput, tiles


def head_nll(x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """Negative log-likelihood in nats of each target under softmax(weight @ norm(x)), 0 where the target is negative.

    Args:
        x: [..., D], the residual stream, in the parameters' type.
        norm: over D; the product is in the type of its output.
        weight: [V, D], in the parameters' type.
        targets: [...] int64, below vocab_size.
        vocab_size: columns of the logits from here on belong to no token and take no probability.

    Returns:
        [...] in float32 (float64 for float64). Differentiable once with respect to x, the norm's tensors and weight.
    """
    nll: Tensor = _head_nll(x, *norm[:2], weight, targets, vocab_size, norm.eps, norm.dtype)
    return nll


@torch.library.custom_op("hyena_dist::head_nll", mutates_args=())
def _head_nll(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    targets: Tensor,
    vocab_size: int,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    norm, rows, wanted = NormInput(norm_weight, norm_bias, eps, dtype), x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    nll, (head, bias) = _nll_like(x).view(-1), norm.into(weight[:vocab_size])
    for tile in tiles(rows):
        logits = real(torch.addmm(bias, norm.standard(rows[tile], norm.moments(rows[tile])), head.t()))
        of_target = logits.gather(1, wanted[tile, None].clamp(min=0))[:, 0]
        nll[tile] = torch.where(wanted[tile] < 0, 0, logits.logsumexp(1) - of_target)
    return nll.view(x.shape[:-1])


@_head_nll.register_fake
def _nll_like(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.promote_types(x.dtype, torch.float32))


@torch.library.custom_op("hyena_dist::head_nll_backward", mutates_args=())
def _head_nll_backward(
    d_nll: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    targets: Tensor,
    vocab_size: int,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    norm, rows, wanted = NormInput(norm_weight, norm_bias, eps, dtype), x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    dx, (head, bias) = new_empty(rows, rows.shape), norm.into(weight[:vocab_size])
    d_head, d_bias = torch.zeros_like(head, dtype=x.dtype), torch.zeros_like(bias, dtype=x.dtype)
    d_rows = torch.where(wanted < 0, 0, d_nll.reshape(-1))
    for tile in tiles(rows):
        moments = norm.moments(rows[tile])
        h = norm.standard(rows[tile], moments)
        d = real(torch.addmm(bias, h, head.t()))
        d = torch.exp(d - d.logsumexp(1, keepdim=True))  # twice as fast as softmax over so few columns
        d.scatter_add_(1, wanted[tile, None].clamp(min=0), torch.full_like(d[:, :1], -1))
        d_bias += d.mul_(d_rows[tile, None]).sum(0)
        d = d.to(dtype)
        d_head += torch.mm(d.t(), h)
        dx[tile] = norm.backward(torch.mm(d, head), rows[tile], moments)
    d_weight = torch.zeros_like(weight)
    d_weight[:vocab_size], *d_norm = norm.out_of(d_head, d_bias, weight[:vocab_size])
    return dx.view(x.shape), *d_norm, d_weight  # type: ignore[return-value]


@_head_nll_backward.register_fake
def _(d_nll: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, inputs[:4]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.rest = inputs[5:]


def _backward(ctx: Any, d_nll: Tensor) -> tuple[Tensor | None, ...]:
    return *_head_nll_backward(d_nll, *ctx.saved_tensors, *ctx.rest), None, None, None, None


_head_nll.register_autograd(_backward, setup_context=_keep)
differentiable_once(_head_nll_backward, "the head's loss")
