"""Final norm, tied head and cross-entropy in one operator, by stretches of positions, that keeps its input alone.

What is computed. With h the standardised rows of x and W', c' the head with the norm folded in (`norm`), for target j

    l = h W'^T + c'
    nll = log(sum over v of exp(l_v)) - l_j,  and 0 where there is no target

Backward, from d (the gradient of nll, 0 where there is no target):

    dl = d (softmax(l) - onehot(j))
    dW' = dl^T h        dc' = sum of dl
    dh = dl W'        dx as in `norm`

Logits and their gradient are in memory for one stretch only; the columns that belong to no token are left out. Plain
reference: `hyena_dist.ops.reference.head`.

Shapes: M sequences x positions, D d_model, V padded vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gates import real
from hyena_dist.ops.fused.buffer_pool import new_empty
from hyena_dist.ops.fused.norm import fold, standardise, standardise_backward, tiles, unfold_gradients
from hyena_dist.ops.record_op import RecordOp
from hyena_dist.ops.records import NormInput


def head_nll(x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """Return the negative log-likelihood in nats of each target under softmax(weight @ norm(x)).

    Args:
        x: [..., D], the residual stream, in the parameters' type.
        norm: the final norm, over D; the product is in the type of its output.
        weight: [V, D], in the parameters' type.
        targets: [...] int64, below vocab_size; where one is negative, 0 nats are returned.
        vocab_size: columns of the logits from here on belong to no token and take no probability.

    Returns:
        [...] in float32 (float64 for float64). Differentiable once with respect to x, the norm's tensors and weight.
    """
    return OPERATOR(Inputs(x, norm, weight, targets, vocab_size))


class Inputs(NamedTuple):
    """The arguments of `head_nll`, and their gradients."""

    x: Tensor
    norm: NormInput
    weight: Tensor
    targets: Tensor
    vocab_size: int


def _forward(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    x, norm, weight, targets, vocab_size = inputs
    rows = x.reshape(-1, x.shape[-1])
    wanted = targets.reshape(-1)
    head = fold(norm, weight[:vocab_size])
    nll = _empty(inputs, keep)[0].view(-1)
    for tile in tiles(rows):
        h, _ = standardise(rows[tile], norm)
        logits = real(torch.addmm(head.bias, h, head.weight.t()))
        of_target = logits.gather(1, wanted[tile, None].clamp(min=0))[:, 0]
        nll[tile] = torch.where(wanted[tile] < 0, 0, logits.logsumexp(1) - of_target)
    return nll.view(x.shape[:-1]), None


def _empty(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    x = inputs.x
    return x.new_empty(x.shape[:-1], dtype=torch.promote_types(x.dtype, torch.float32)), None


def _kept(tensors: Sequence[Tensor]) -> None:
    assert not tensors


def _backward(d_nll: Tensor, inputs: Inputs, kept: None) -> Inputs:
    x, norm, weight, targets, vocab_size = inputs
    rows = x.reshape(-1, x.shape[-1])
    wanted = targets.reshape(-1)
    dx = new_empty(rows, rows.shape)
    head = fold(norm, weight[:vocab_size])
    d_head_weight = torch.zeros_like(head.weight, dtype=x.dtype)
    d_head_bias = torch.zeros_like(head.bias, dtype=x.dtype)
    d_rows = torch.where(wanted < 0, 0, d_nll.reshape(-1))
    for tile in tiles(rows):
        h, moments = standardise(rows[tile], norm)
        d = real(torch.addmm(head.bias, h, head.weight.t()))
        d = torch.exp(d - d.logsumexp(1, keepdim=True))  # twice as fast as softmax over so few columns
        d.scatter_add_(1, wanted[tile, None].clamp(min=0), torch.full_like(d[:, :1], -1))
        d_head_bias += d.mul_(d_rows[tile, None]).sum(0)
        d = d.to(norm.dtype)
        d_head_weight += torch.mm(d.t(), h)
        standardise_backward(torch.mm(d, head.weight), rows[tile], moments, dx[tile])
    unfolded = unfold_gradients(d_head_weight, d_head_bias, norm, weight[:vocab_size])
    d_weight = torch.zeros_like(weight)
    d_weight[:vocab_size] = unfolded.weight
    d_norm = norm._replace(weight=unfolded.norm_weight, bias=unfolded.norm_bias)
    return Inputs(dx.view(x.shape), d_norm, d_weight, targets, vocab_size)


OPERATOR = RecordOp(
    "head_nll", "the head's loss", Inputs, forward=_forward, empty=_empty, kept=_kept, backward=_backward,
    triton="hyena_dist.ops.gpu.head",
)  # fmt: skip
