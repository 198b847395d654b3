"""The records that the operators take, tensors with names and shapes. A record's gradients come in one of its kind.

Shapes: C channels, D d_model, E features of a position, H hidden width of the MLP, K taps, L length, N order, T
positions, W width of the sine network.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class NormInput(NamedTuple):
    """A LayerNorm over the last dimension, which has D numbers."""

    weight: Tensor
    """Factor of each number of a row, [D]."""
    bias: Tensor
    """Summand of each number of a row, [D]."""
    eps: float
    """The number added to the variance."""
    dtype: torch.dtype
    """The type of the norm's output, and so of the products that take it."""


class Projections(NamedTuple):
    """The dense layers at both ends of the Hyena operator."""

    in_weight: Tensor
    """Weight of the first layer, [(N + 1) C, D]: the rows of x0, then those of x1, ..., then those of v."""
    in_bias: Tensor
    """Bias of the first layer, [(N + 1) C]."""
    out_weight: Tensor
    """Weight of the last layer, [D, C]."""
    out_bias: Tensor
    """Bias of the last layer, [D]."""


class Filters(NamedTuple):
    """The short filters of the Hyena operator's projections, and the long filters that it convolves with."""

    taps: Tensor
    """Taps of the causal short filters, [(N + 1) C, K]; the last one meets the present position."""
    bias: Tensor
    """Bias of each short filter, [(N + 1) C]."""
    kernels: Tensor
    """The long filters, of which the first is applied first, [N - 1, C, L] in float32 (float64)."""


class MLPWeights(NamedTuple):
    """The two dense layers of fc2(gelu(fc1(x)))."""

    fc1_weight: Tensor
    """Weight of the first layer, [H, D]."""
    fc1_bias: Tensor
    """Bias of the first layer, [H]."""
    fc2_weight: Tensor
    """Weight of the second layer, [D, H]."""
    fc2_bias: Tensor
    """Bias of the second layer, [D]."""


class Features(NamedTuple):
    """The positions as the implicit filter knows them. It does not train these tensors."""

    z: Tensor
    """Features of each position, [L, E]."""
    t: Tensor
    """Time of each position, [L]."""


class SineNetwork(NamedTuple):
    """The network last @ sin(freq * (... sin(freq * (weights[0] @ z + biases[0])) ...))."""

    weights: tuple[Tensor, ...]
    """Weights of the hidden layers, [W, E] and then [W, W] for each further one."""
    biases: tuple[Tensor, ...]
    """Biases of the hidden layers, [W] each."""
    freq: Tensor
    """The frequencies, which all hidden layers share, [1, W]."""
    last: Tensor
    """Weight of the last layer, which has no bias, [C, W]."""


class DecayWindow(NamedTuple):
    """The factor exp(-t * |rates|) + shift of each channel, which is not trained."""

    rates: Tensor
    """The rate at which each channel decays, per unit of time t, [C]; its sign does not matter."""
    shift: float
    """What is left of a filter where the exponential has vanished."""
