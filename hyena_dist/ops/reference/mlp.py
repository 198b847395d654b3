"""The MLP of a layer.

Shapes: D d_model, H hidden width.

Source: Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv 1606.08415), the tanh form.
"""

import math

import torch
from torch import Tensor

from hyena_dist.ops.records import MLPWeights, NormInput
from hyena_dist.ops.reference.norm import layer_norm


def gelu(a: Tensor) -> Tensor:
    """Return a / 2 * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 * a**3)))."""
    return a / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))


def gelu_mlp(x: Tensor, norm: NormInput, weights: MLPWeights, residual: bool = False) -> Tensor:
    """Return fc2(gelu(fc1(norm(x)))), [..., D] as x is, with x added to it if asked for."""
    hidden = gelu(layer_norm(x, norm) @ weights.fc1_weight.t() + weights.fc1_bias)  # [..., H]
    y = hidden @ weights.fc2_weight.t() + weights.fc2_bias
    return x + y if residual else y
