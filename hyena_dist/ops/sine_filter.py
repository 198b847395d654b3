"""Hyena's implicit filter: a small sine network over positions, times an exponential decay.

In stretches of positions, of which backward makes the hidden layers again: at a million positions each of them would be
as large as a quarter of the kernels.

Shapes: L positions, T of them in a stretch, E features of a position, W width of the network, C channels.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.memory import new_empty

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


class Window(NamedTuple):
    """The factor exp(-t * rates) + shift of each channel; it is not trained."""

    rates: Tensor
    """[C]."""
    shift: float

    def at(self, t: Tensor) -> Tensor:
        """[T] -> [C, T]."""
        return torch.exp(self.rates[:, None] * -t).add_(self.shift)


def implicit_filter(
    features: Features, positions: range, network: SineNetwork, window: Window, skip: Tensor | None
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
        ctx: Any, features: Features, positions: range, window: Window, skip: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.features, ctx.positions, ctx.window, ctx.skips = features, positions, window, skip is not None
        ctx.save_for_backward(*parameters)
        network = _network(parameters)
        y = new_empty(network.last, (len(network.last), len(positions)))
        for start, end in _tiles(positions):
            z, t = features(start, end)
            *_, hidden = _layers(network, z)
            # Not written into y by the product: rows that are a power of two apart meet in the same lines of a cache.
            part = torch.mm(network.last, hidden.t())
            torch.mul(part, window.at(t), out=y[:, start - positions.start : end - positions.start])
        if skip is not None:
            y[:, 0] += skip
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        parameters, positions = ctx.saved_tensors, ctx.positions
        network, gradients = _network(parameters), _network([torch.zeros_like(p) for p in parameters])
        for start, end in _tiles(positions):
            z, t = ctx.features(start, end)
            layers = list(_layers(network, z))
            d_last = ctx.window.at(t).mul_(dy[:, start - positions.start : end - positions.start])
            gradients.last.addmm_(d_last, layers[-1])
            d = torch.mm(d_last.t(), network.last)
            for i in reversed(range(len(network.weights))):
                # sin(freq * a), a before the sine: computed again, as keeping it as well costs more than the product.
                below = layers[i]
                a = torch.addmm(network.biases[i], below, network.weights[i].t())
                d.mul_((a * network.freq).cos_())
                gradients.freq.add_(a.mul_(d).sum(0))
                d.mul_(network.freq)
                gradients.weights[i].addmm_(d.t(), below)
                gradients.biases[i].add_(d.sum(0))
                if i:
                    d = torch.mm(d, network.weights[i])
        d_skip = dy[:, 0].clone() if ctx.skips else None
        return None, None, None, d_skip, *gradients.weights, *gradients.biases, gradients.freq, gradients.last


def _network(parameters: Any) -> SineNetwork:
    *hidden, freq, last = parameters
    depth = len(hidden) // 2
    return SineNetwork(tuple(hidden[:depth]), tuple(hidden[depth:]), freq, last)


def _layers(network: SineNetwork, z: Tensor) -> Iterator[Tensor]:
    """Z [T, E], then the value of each hidden layer [T, W]."""
    yield z
    for weight, bias in zip(network.weights, network.biases, strict=True):
        z = torch.addmm(bias, z, weight.t()).mul_(network.freq).sin_()
        yield z


def _tiles(positions: range) -> list[tuple[int, int]]:
    starts = range(positions.start, positions.stop, TILE)
    return [(start, min(start + TILE, positions.stop)) for start in starts]
