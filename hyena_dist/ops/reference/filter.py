"""Hyena's implicit filter: a sine network over positions times an exponential decay.

Shapes: L positions, E features of a position, W width of the network, C channels.

Source: Hyena (arXiv 2302.10866), section 3.3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.ops.records import DecayWindow, Features, SineNetwork


def sine_network(network: SineNetwork, z: Tensor) -> Tensor:
    """The network last @ sin(freq * (W_n ... sin(freq * (W_1 @ z + b_1)) ... + b_n)): [L, E] -> [L, C]."""
    for weight, bias in zip(network.weights, network.biases, strict=True):
        z = torch.sin(network.freq * F.linear(z, weight, bias))
    return F.linear(z, network.last)


def filter_values(network: SineNetwork, window: DecayWindow, z: Tensor, t: Tensor) -> Tensor:
    """The network's values times the window: features z [L, E] and times t [L] -> [L, C]."""
    return sine_network(network, z) * (torch.exp(-t[:, None] * window.rates.abs()) + window.shift)


def implicit_filter(features: Features, network: SineNetwork, window: DecayWindow, skip: Tensor | None) -> Tensor:
    """Return the filter's values [C, L] at positions with these features, with skip [C] added at the first of them."""
    y = filter_values(network, window, features.z, features.t).t()
    return y if skip is None else torch.cat((y[:, :1] + skip[:, None], y[:, 1:]), dim=1)
