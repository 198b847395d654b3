"""Hyena's implicit filter: a small sine network over positions, times an exponential decay.

What is computed, at each position with features z and time t:

    l_0 = z        a_i = f (W_i l_{i-1} + b_i)        l_i = sin(a_i)        for i = 1, ..., n
    y = (V l_n) (exp(-t rates) + shift),  and + skip at the first position

The frequencies f are multiplied into W_i and b_i: W_i' = diag(f) W_i, b_i' = f b_i.

Backward, from dy:

    dskip = dy at the first position
    e = dy (exp(-t rates) + shift)        dV = e l_n^T        dl_n = V^T e
    da_i = dl_i cos(a_i)        dW_i' = da_i l_{i-1}^T        db_i' = sum of da_i        dl_{i-1} = W_i'^T da_i
    dW_i = diag(f) dW_i'        db_i = f db_i'        df = sum over i of (row sums of dW_i' W_i) + db_i' b_i

Positions are taken in stretches, and backward makes the hidden layers again unless positions are few: at a million of
them each layer would be as large as a quarter of the kernels.

Source: Hyena (arXiv 2302.10866), section 3.3. Plain reference: `hyena_dist.ops.reference.filter`.

Shapes: L positions, T of them in a stretch, E features of a position, W width of the network, C channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.record_op import flatten
from hyena_dist.ops.records import DecayWindow, Features, SineNetwork
from hyena_dist.ops.sizes import sizes_of


def implicit_filter(
    features: Features, positions: range, network: SineNetwork, window: DecayWindow, skip: Tensor | None
) -> Tensor:
    """Return the filter's values at the positions of a range.

    Args:
        features: gives the features and times of positions; called again in backward.
        positions: L consecutive ones, a range of step 1.
        network: the sine network, which is trained.
        window: the decay that the network's values are multiplied by.
        skip: [C], added at the first of these positions: a convolution's skip term is its filter's value at lag zero.

    Returns:
        [C, L] in the type of the parameters. Differentiable once with respect to them.

    Source: Hyena (arXiv 2302.10866), section 3.3.
    """
    y: Tensor = _ImplicitFilter.apply(features, positions, window, skip, *flatten(network))
    return y


class _Hidden(NamedTuple):
    """The network's hidden layers at a stretch of positions."""

    phases: list[Tensor]
    """The argument a of each layer's sine, [T, W] each."""
    layers: list[Tensor]
    """The features z [T, E], and then the sines l [T, W] of each layer."""


class _Scaled(NamedTuple):
    """A hidden layer with the frequencies multiplied in."""

    weight: Tensor
    """The scaled weight W', [W, E] or [W, W]."""
    bias: Tensor
    """The scaled bias b', [W]."""


class _ImplicitFilter(torch.autograd.Function):
    """The autograd function of `implicit_filter`.

    It keeps the parameters and, where positions are few, their hidden layers and window.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Features, positions: range, window: DecayWindow, skip: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        network = _network(parameters)
        ctx.features, ctx.positions, ctx.window = features, positions, window
        ctx.skips = skip is not None
        few = keeps_all(len(positions) * len(network.last), network.last.device)
        ctx.kept = [] if any(ctx.needs_input_grad) and few else None
        scaled = _scaled(network)
        y = new_empty(network.last, (len(network.last), len(positions)))
        for start, end in _tiles(positions, network.last.device):
            z, t = features(start, end)
            hidden = _hidden(scaled, z)
            factor = _factor(window, t)
            # Not written into y by the product: rows that are a power of two apart meet in the same lines of a cache.
            part = torch.mm(network.last, hidden.layers[-1].t())
            torch.mul(part, factor, out=y[:, start - positions.start : end - positions.start])
            if ctx.kept is not None:
                ctx.kept.append((hidden, factor))
        if skip is not None:
            y[:, 0] += skip
        ctx.save_for_backward(*parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        network = _network(ctx.saved_tensors)
        positions = ctx.positions
        gradients = _network([torch.zeros_like(parameter) for parameter in flatten(network)])
        scaled = _scaled(network)
        for stretch, (start, end) in enumerate(_tiles(positions, dy.device)):
            if ctx.kept is None:
                z, t = ctx.features(start, end)
                hidden, factor = _hidden(scaled, z), _factor(ctx.window, t)
            else:
                hidden, factor = ctx.kept[stretch]
            d_last = factor * dy[:, start - positions.start : end - positions.start]
            gradients.last.addmm_(d_last, hidden.layers[-1])
            d = torch.mm(d_last.t(), network.last)
            for i in reversed(range(len(scaled))):
                d.mul_(hidden.phases[i].cos())
                # With so few features a product sums position after position, and float32 drifts; float64 is cheap.
                wide = torch.float64 if i == 0 else d.dtype
                gradients.weights[i].add_(torch.mm(d.to(wide).t(), hidden.layers[i].to(wide)))
                gradients.biases[i].add_(d.sum(0))
                if i:
                    d = torch.mm(d, scaled[i].weight)
        # So far the gradients are those of the scaled layers.
        freq = network.freq[0]
        for w, b, d_w, d_b in zip(network.weights, network.biases, gradients.weights, gradients.biases, strict=True):
            gradients.freq.add_((d_w * w).sum(1) + d_b * b)
            d_w.mul_(freq[:, None])
            d_b.mul_(freq)
        d_skip = dy[:, 0].clone() if ctx.skips else None
        return None, None, None, d_skip, *flatten(gradients)


def _network(parameters: Sequence[Tensor]) -> SineNetwork:
    """Return the network that has these parameters, which are in the order of `flatten`."""
    *hidden, freq, last = parameters
    depth = len(hidden) // 2
    return SineNetwork(tuple(hidden[:depth]), tuple(hidden[depth:]), freq, last)


def _scaled(network: SineNetwork) -> list[_Scaled]:
    """The hidden layers with the frequencies in them: the parameters are small, where a layer's values are not."""
    freq = network.freq[0]
    return [_Scaled(w * freq[:, None], b * freq) for w, b in zip(network.weights, network.biases, strict=True)]


def _hidden(scaled: list[_Scaled], z: Tensor) -> _Hidden:
    phases: list[Tensor] = []
    layers = [z]
    for layer in scaled:
        phases.append(torch.addmm(layer.bias, layers[-1], layer.weight.t()))
        layers.append(phases[-1].sin())
    return _Hidden(phases, layers)


def _factor(window: DecayWindow, t: Tensor) -> Tensor:
    """The window [C, T] at the times t [T]."""
    return torch.exp(window.rates[:, None] * -t).add_(window.shift)


def _tiles(positions: range, device: torch.device) -> list[tuple[int, int]]:
    size = sizes_of(device).filter_positions
    starts = range(positions.start, positions.stop, size)
    return [(start, min(start + size, positions.stop)) for start in starts]
