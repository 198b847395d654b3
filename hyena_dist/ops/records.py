"""What the operators take: named tensors and their shapes. The gradients of a record come in a record of its kind.

Shapes: C channels, D d_model, E features of a position, H hidden width of the MLP, K taps, L length, N order, T
positions, W width of the sine network.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Features = Callable[[int, int], tuple[Tensor, Tensor]]
"""A function (start, end) -> features z [T, E] and time t [T] of the T = end - start positions, without gradient."""


class NormInput(NamedTuple):
    """A LayerNorm over the last dimension, which has D numbers."""

    weight: Tensor
    """[D]."""
    bias: Tensor
    """[D]."""
    eps: float
    """The number added to the variance."""
    dtype: torch.dtype
    """The type of the norm's output, and so of the products that take it."""


class Projections(NamedTuple):
    """The dense layers at both ends of the Hyena operator."""

    in_weight: Tensor
    """[(N + 1) C, D]: the rows of x0, then those of x1, ..., then those of v."""
    in_bias: Tensor
    """[(N + 1) C]."""
    out_weight: Tensor
    """[D, C]."""
    out_bias: Tensor
    """[D]."""


class Filters(NamedTuple):
    """What the Hyena operator filters its projections with, and what it convolves with."""

    taps: Tensor
    """[(N + 1) C, K], the causal short filters; the last tap meets the present position."""
    bias: Tensor
    """[(N + 1) C], the bias of each short filter."""
    kernels: Tensor
    """[N - 1, C, L], the long filters, of which the first is applied first; float32 (float64)."""


class MLPWeights(NamedTuple):
    """The two dense layers of fc2(gelu(fc1(x)))."""

    fc1_weight: Tensor
    """[H, D]."""
    fc1_bias: Tensor
    """[H]."""
    fc2_weight: Tensor
    """[D, H]."""
    fc2_bias: Tensor
    """[D]."""


class SineNetwork(NamedTuple):
    """The network last @ sin(freq * (... sin(freq * (weights[0] @ z + biases[0])) ...))."""

    weights: tuple[Tensor, ...]
    """[W, E], then [W, W] for each further layer."""
    biases: tuple[Tensor, ...]
    """[W] for each layer."""
    freq: Tensor
    """[1, W], the frequencies, which all layers share."""
    last: Tensor
    """[C, W]."""


class DecayWindow(NamedTuple):
    """The factor exp(-t * rates) + shift of each channel, which is not trained."""

    rates: Tensor
    """[C]."""
    shift: float
    """What is left of a filter where the exponential has vanished."""
