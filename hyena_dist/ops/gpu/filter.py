"""The implicit filter in Triton kernels: in float32, as it always is, for networks of a width of at most 64.

Forward is one kernel besides the packing of the parameters, and backward one for each layer besides the sum of what the
programs found. What is computed: `ops.fused.filter`; kernels: `ops.triton.filter`.
"""

import torch
from torch import Tensor

from hyena_dist.ops.fused.filter import Inputs, network_of
from hyena_dist.ops.record_op import flatten
from hyena_dist.ops.triton.filter import gradients, packed, unpacked, values

WIDEST = 64
"""The largest width: a program holds weights and a gradient as large as its square, and at 128 an A100 has no room."""


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels can do it."""
    tensors = (*flatten(inputs.network), *inputs.features, inputs.window.rates, inputs.skip)
    fp32 = all(t.dtype == torch.float32 for t in tensors if t is not None)
    return fp32 and inputs.features.z.is_contiguous() and len(inputs.network.weights[0]) <= WIDEST


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return the filter's values [C, L], and the packed parameters if a backward pass may follow."""
    parameters = packed(inputs.network)
    return values(*inputs[:2], parameters, *inputs[2:]), parameters if keep else None


def backward(dy: Tensor, inputs: Inputs, kept: Tensor) -> Inputs:
    """Return the inputs with the gradients of network and skip in place."""
    features, network, window, skip = inputs
    row, d_skip = gradients(dy, features, network, kept, window, skip is not None)
    return inputs._replace(network=network_of(unpacked(row, network)), skip=d_skip)
