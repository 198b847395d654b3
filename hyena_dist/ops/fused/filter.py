"""Hyena's implicit filter: a small sine network over positions, times an exponential decay.

In stretches of positions, of which backward makes the hidden layers again unless there are few: at a million positions
each of them would be as large as a quarter of the kernels.

Shapes: L positions, T of them in a stretch, E features of a position, W width of the network, C channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty

TILE = 4096
"""Positions for which the network's hidden layers are in memory at a time."""

Features = Callable[[int, int], tuple[Tensor, Tensor]]
"""(start, end) -> z [T, E] and t [T] of these positions, without gradient."""


class SineNetwork(NamedTuple):
    """last @ sin(freq * (... sin(freq * (weights[0] @ z + biases[0])) ...)), the same frequencies in every layer."""

    weights: tuple[Tensor, ...]
    """[W, E], then [W, W] each."""
    biases: tuple[Tensor, ...]
    """[W] each."""
    freq: Tensor
    """[1, W]."""
    last: Tensor
    """[C, W]."""


class DecayWindow(NamedTuple):
    """The factor exp(-t * rates) + shift of each channel; it is not trained."""

    rates: Tensor
    """[C]."""
    shift: float

    def at(self, t: Tensor) -> Tensor:
        """[T] -> [C, T]."""
        return torch.exp(self.rates[:, None] * -t).add_(self.shift)


def implicit_filter(
    features: Features, positions: range, network: SineNetwork, window: DecayWindow, skip: Tensor | None
) -> Tensor:
    """The filter's values at the positions of a range.

    Args:
        features: of positions; called again in backward.
        positions: L of them, one after the other.
        network: what is trained.
        window: what its values are multiplied by.
        skip: [C], added at the first of these positions: a convolution's skip term is its filter's value at lag zero.

    Returns:
        [C, L] in the type of the parameters. Differentiable once with respect to them.

    Source: Hyena (arXiv 2302.10866), section 3.3.
    """
    y: Tensor = _ImplicitFilter.apply(
        features, positions, window, skip, *network.weights, *network.biases, network.freq, network.last
    )
    return y


class _ImplicitFilter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Features, positions: range, window: DecayWindow, skip: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.features, ctx.positions, ctx.window, ctx.skips = features, positions, window, skip is not None
        network = _network(parameters)
        ctx.kept = [] if any(ctx.needs_input_grad) and keeps_all(len(positions) * len(network.last)) else None
        scaled = _scaled(network)
        y = new_empty(network.last, (len(network.last), len(positions)))
        for start, end in _tiles(positions):
            z, t = features(start, end)
            phases, layers = _layers(scaled, z)
            factor = window.at(t)
            # Not written into y by the product: rows that are a power of two apart meet in the same lines of a cache.
            part = torch.mm(network.last, layers[-1].t())
            torch.mul(part, factor, out=y[:, start - positions.start : end - positions.start])
            if ctx.kept is not None:
                ctx.kept.append((phases, layers, factor))
        if skip is not None:
            y[:, 0] += skip
        ctx.save_for_backward(*parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        parameters, positions = ctx.saved_tensors, ctx.positions
        network, gradients = _network(parameters), _network([torch.zeros_like(p) for p in parameters])
        scaled = _scaled(network)
        for i, (start, end) in enumerate(_tiles(positions)):
            if ctx.kept is None:
                z, t = ctx.features(start, end)
                (phases, layers), factor = _layers(scaled, z), ctx.window.at(t)
            else:
                phases, layers, factor = ctx.kept[i]
            d_last = factor * dy[:, start - positions.start : end - positions.start]
            gradients.last.addmm_(d_last, layers[-1])
            d = torch.mm(d_last.t(), network.last)
            for i in reversed(range(len(network.weights))):
                d.mul_(phases[i].cos())
                # With so few features a product sums position after position, and float32 drifts; float64 is cheap.
                wide = torch.float64 if i == 0 else d.dtype
                gradients.weights[i].add_(torch.mm(d.to(wide).t(), layers[i].to(wide)))
                gradients.biases[i].add_(d.sum(0))
                if i:
                    d = torch.mm(d, scaled[i][0])
        # Of freq * weight and freq * bias so far.
        freq = network.freq[0]
        for w, b, d_w, d_b in zip(network.weights, network.biases, gradients.weights, gradients.biases, strict=True):
            gradients.freq.add_((d_w * w).sum(1) + d_b * b)
            d_w.mul_(freq[:, None])
            d_b.mul_(freq)
        d_skip = dy[:, 0].clone() if ctx.skips else None
        return None, None, None, d_skip, *gradients.weights, *gradients.biases, gradients.freq, gradients.last


def _network(parameters: Any) -> SineNetwork:
    *hidden, freq, last = parameters
    depth = len(hidden) // 2
    return SineNetwork(tuple(hidden[:depth]), tuple(hidden[depth:]), freq, last)


def _scaled(network: SineNetwork) -> list[tuple[Tensor, Tensor]]:
    """(freq * weight, freq * bias) of each layer: small, where its values are not."""
    freq = network.freq[0]
    return [(w * freq[:, None], b * freq) for w, b in zip(network.weights, network.biases, strict=True)]


def _layers(scaled: list[tuple[Tensor, Tensor]], z: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The arguments of the sines [T, W] of each hidden layer; and z [T, E] with the sines themselves after it."""
    phases, layers = [], [z]
    for weight, bias in scaled:
        phases.append(torch.addmm(bias, layers[-1], weight.t()))
        layers.append(phases[-1].sin())
    return phases, layers


def _tiles(positions: range) -> list[tuple[int, int]]:
    starts = range(positions.start, positions.stop, TILE)
    return [(start, min(start + TILE, positions.stop)) for start in starts]
