"""The operator of `ops.fused.head` from GPU kernels, for all positions at once; it keeps its input alone.

What is computed, in one launch: the norm, logits and nll of `triton.head`.

Backward, from the gradient of nll, in six launches. With dl from `triton.head` and h = layer_norm(x), made again:

    dW = dl^T h        dh = dl W        dx and the norm from `triton.norm`

Shapes: M sequences x positions, D d_model, V padded vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena_dist.ops.fused.head import Inputs
from hyena_dist.ops.gpu.products import product_over_rows
from hyena_dist.ops.records import NormInput
from hyena_dist.ops.triton.dot import TYPES
from hyena_dist.ops.triton.head import LARGEST_VOCABULARY, head_nll, logits_backward
from hyena_dist.ops.triton.linear import linear
from hyena_dist.ops.triton.norm import WIDEST, norm_backward, standardise


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels can do it: few tokens, not in float64, nor with a very wide model."""
    x, norm, weight, _, _ = inputs
    known = x.dtype in TYPES and norm.dtype in TYPES
    return known and x.shape[-1] <= WIDEST and len(weight) <= LARGEST_VOCABULARY


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    """Return the negative log-likelihood of each target, [...] in float32."""
    x, norm, weight, targets, vocab_size = inputs
    nll = head_nll(x.reshape(-1, x.shape[-1]), norm, weight, targets.reshape(-1), vocab_size)
    return nll.view(targets.shape), None


def empty(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    """Return memory for the value."""
    return torch.empty(inputs.targets.shape, dtype=torch.float32, device=inputs.x.device), None


def kept(tensors: Sequence[Tensor]) -> None:
    """Return what forward kept: nothing."""
    assert not tensors


def backward(d_nll: Tensor, inputs: Inputs, kept: None) -> Inputs:
    """Return the gradients of the inputs."""
    x, norm, weight, targets, vocab_size = inputs
    rows = x.reshape(-1, 1, x.shape[-1])
    d_logits = logits_backward(d_nll.reshape(-1), rows[:, 0], norm, weight, targets.reshape(-1), vocab_size)
    h = standardise(rows, norm)
    d_weight = product_over_rows(d_logits, h[:, 0], weight.dtype)
    dh = linear(d_logits[:, None], weight.t(), None, out=h)
    of_norm = norm_backward(dh, rows, norm)
    d_norm = NormInput(of_norm.weight, of_norm.bias, norm.eps, norm.dtype)
    return Inputs(of_norm.x.view(x.shape), d_norm, d_weight, targets, vocab_size)
