"""Hyena's implicit filter: a small sine network over positions, times an exponential decay.

What is computed, at each position with features z and time t:

    l_0 = z        a_i = f (W_i l_{i-1} + b_i)        l_i = sin(a_i)        for i = 1, ..., n
    y = (V l_n) (exp(-t |rates|) + shift),  and + skip at the first position

The frequencies f are multiplied into W_i and b_i: W_i' = diag(f) W_i, b_i' = f b_i.

Backward, from dy:

    dskip = dy at the first position
    e = dy (exp(-t |rates|) + shift)        dV = e l_n^T        dl_n = V^T e
    da_i = dl_i cos(a_i)        dW_i' = da_i l_{i-1}^T        db_i' = sum of da_i        dl_{i-1} = W_i'^T da_i
    dW_i = diag(f) dW_i'        db_i = f db_i'        df = sum over i of (row sums of dW_i' W_i) + db_i' b_i

Positions are taken in stretches, and backward makes the hidden layers again unless positions are few: at a million of
them each layer would be as large as a quarter of the kernels.

Source: Hyena (arXiv 2302.10866), section 3.3. Plain reference: `hyena_dist.ops.reference.filter`.

Shapes: L positions, T of them in a stretch, E features of a position, W width of the network, C channels.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops.backend import backend_of
from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.fused.norm import stretches
from hyena_dist.ops.record_op import flatten
from hyena_dist.ops.records import DecayWindow, Features, SineNetwork
from hyena_dist.ops.sizes import sizes_of


def implicit_filter(features: Features, network: SineNetwork, window: DecayWindow, skip: Tensor | None) -> Tensor:
    """Return the filter's values at L positions.

    Args:
        features: what the network and the window know of the positions.
        network: the sine network, which is trained.
        window: the decay that the network's values are multiplied by.
        skip: [C], added at the first of these positions: a convolution's skip term is its filter's value at lag zero.

    Returns:
        [C, L] in the type of the parameters. Differentiable once with respect to them.

    Source: Hyena (arXiv 2302.10866), section 3.3.
    """
    y: Tensor = _ImplicitFilter.apply(features, window, skip, *flatten(network))
    return y


class Inputs(NamedTuple):
    """The arguments of `implicit_filter`."""

    features: Features
    network: SineNetwork
    window: DecayWindow
    skip: Tensor | None


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


_Kept = list[tuple[_Hidden, Tensor]] | None
"""The hidden layers and the window [C, T] of each stretch, or None where backward makes them again."""


class _Implementation(NamedTuple):
    forward: Callable[[Inputs, bool], tuple[Tensor, Any]]
    """A function (inputs, whether a backward pass may follow) -> the filter's values, and what `backward` wants."""
    backward: Callable[[Tensor, Inputs, Any], Inputs]
    """A function (gradient of the values, inputs, kept) -> the inputs with gradients of network and skip in place."""


class _ImplicitFilter(torch.autograd.Function):
    """The autograd function of `implicit_filter`. Its network has any number of layers, which no `RecordOp` takes."""

    @staticmethod
    def forward(ctx: Any, features: Features, window: DecayWindow, skip: Tensor | None, *parameters: Tensor) -> Tensor:
        inputs = Inputs(features, network_of(parameters), window, skip)
        ctx.features, ctx.window, ctx.implementation = features, window, _implementation(inputs)
        y, ctx.kept = ctx.implementation.forward(inputs, any(ctx.needs_input_grad))
        ctx.save_for_backward(skip, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        skip, *parameters = ctx.saved_tensors
        inputs = Inputs(ctx.features, network_of(parameters), ctx.window, skip)
        gradients = ctx.implementation.backward(dy, inputs, ctx.kept)
        return None, None, gradients.skip, *flatten(gradients.network)


def _implementation(inputs: Inputs) -> _Implementation:
    if backend_of(inputs.network.last.device) == "triton":
        module: Any = import_module("hyena_dist.ops.gpu.filter")
        if module.takes(inputs):
            return _Implementation(module.forward, module.backward)
    return _Implementation(_forward, _backward)


def _forward(inputs: Inputs, keep: bool) -> tuple[Tensor, _Kept]:
    """The filter's values [C, L]; where positions are few, hidden layers and window are kept."""
    features, network, window, skip = inputs
    scaled = _scaled(network)
    channels, length = len(network.last), len(features.t)
    kept: _Kept = [] if keep and keeps_all(length * channels, network.last.device) else None
    y = new_empty(network.last, (channels, length))
    for stretch in _tiles(features.t):
        hidden = _hidden(scaled, features.z[stretch])
        factor = _factor(window, features.t[stretch])
        # Not written into y by the product: rows that are a power of two apart meet in the same lines of a cache.
        part = torch.mm(network.last, hidden.layers[-1].t())
        torch.mul(part, factor, out=y[:, stretch])
        if kept is not None:
            kept.append((hidden, factor))
    if skip is not None:
        y[:, 0] += skip
    return y, kept


def _backward(dy: Tensor, inputs: Inputs, kept: _Kept) -> Inputs:
    features, network, window, skip = inputs
    gradients = network_of([torch.zeros_like(parameter) for parameter in flatten(network)])
    scaled = _scaled(network)
    for number, stretch in enumerate(_tiles(features.t)):
        if kept is None:
            hidden, factor = _hidden(scaled, features.z[stretch]), _factor(window, features.t[stretch])
        else:
            hidden, factor = kept[number]
        d_last = factor * dy[:, stretch]
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
    return inputs._replace(network=gradients, skip=None if skip is None else dy[:, 0].clone())


def network_of(parameters: Sequence[Tensor]) -> SineNetwork:
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
    return torch.exp(window.rates.abs()[:, None] * -t).add_(window.shift)


def _tiles(t: Tensor) -> list[slice]:
    return stretches(len(t), sizes_of(t.device).filter_positions)
