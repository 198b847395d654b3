# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""The implicit filter as GPU kernels, between which only what is as wide as the network or the filter is in memory.

What is computed, at each position with features z and time t:

    l_0 = z        u_i = W_i l_{i-1} + b_i        l_i = sin(f u_i)        for i = 1, ..., n
    y = (V l_n) (exp(-t |rates|) + shift),  and + skip at the first position

Backward, from dy, in a kernel for the first two lines and one for the others of each i; each makes the hidden layers
that it needs again:

    dskip = dy at the first position
    e = dy (exp(-t |rates|) + shift)        dV = e l_n^T        dl_n = V^T e
    da_i = dl_i cos(f u_i)        df += sum of da_i u_i
    d_i = f da_i        dW_i = d_i l_{i-1}^T        db_i = sum of d_i        dl_{i-1} = W_i^T d_i

Sums over positions: a bounded number of programs goes through the tiles of positions. Each writes its sums to a row of
its own, which has the layout of the parameters (`sine_layers`); the rows are added up afterwards.

Source: Hyena (arXiv 2302.10866), section 3.3. Plain reference: `hyena_dist.ops.reference.filter`.

Shapes: L positions, E features of a position, W width, n hidden layers, C channels. A program has T positions and G
channels at a time; the width is padded to P and the features to F, powers of two. Everything is float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.record_op import flatten
from hyena_dist.ops.records import DecayWindow, Features, SineNetwork
from hyena_dist.ops.triton.launch import launch
from hyena_dist.ops.triton.sine_layers import (
    at_bias,
    at_freq,
    at_last,
    at_weight,
    first_layer,
    hidden_layer,
    less_product,
    load_block,
    load_vector,
    next_layer,
    product,
    sine,
    store_block,
    store_vector,
)

TILE = 32
"""Positions of a tile, T. With more, what a program holds of weights, gradients and tiles spills from its registers."""

GROUP = 64
"""Channels that are multiplied at a time, G. In backward each group has programs, and a dl_n, of its own."""

FEATURES = 64
"""The most features of a position that a program takes the gradient of W_1 for, F."""

PROGRAMS = 264
"""The most programs that share the tiles of a sum: two for each multiprocessor of an H100."""

WARPS = 4
BACKWARD_WARPS = 8


@triton.jit
def _window(time, rates, shift, t, c, length, channels):
    """Return exp(-t |rates|) + shift, [G, T]."""
    rate = tl.abs(tl.load(rates + c, mask=c < channels, other=0.0))
    return tl.exp(-rate[:, None] * tl.load(time + t, mask=t < length, other=0.0)[None, :]) + shift


@triton.jit
def _filter(
    y, z, time, parameters, rates, shift, skip, length, channels,
    SKIP: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr,
    T: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Compute all channels at the positions of a tile."""
    t = tl.program_id(0).to(tl.int64) * T + tl.arange(0, T)
    freq = load_vector(at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    layer = tl.trans(hidden_layer(z, parameters, freq, t, length, DEPTH, E, W, DEPTH, P))
    for first in range(0, channels, G):
        c = first + tl.arange(0, G).to(tl.int64)
        v = load_block(at_last(parameters, E, W, DEPTH), c, tl.arange(0, P), channels, W, W, 1)
        value = product(v, layer) * _window(time, rates, shift, t, c, length, channels)
        if SKIP:
            of_c = tl.load(skip + c, mask=c < channels, other=0.0)
            value += tl.where((t == 0)[None, :], of_c[:, None], 0.0)
        store_block(y, value, c, t, channels, length, length)


@triton.jit
def _last_backward(
    dy, dy_c, dy_t, z, time, parameters, rates, shift, d_skip, dl, sums, row_size, programs, length, channels,
    SKIP: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr,
    T: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Compute a group's part of dl_n [L, W], and its dV and dskip."""
    program, group = tl.program_id(0) % programs, tl.program_id(0) // programs
    w, c = tl.arange(0, P), group * G + tl.arange(0, G).to(tl.int64)
    freq = load_vector(at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    v = load_block(at_last(parameters, E, W, DEPTH), c, w, channels, W, W, 1)
    dl += group.to(tl.int64) * length * W
    d_v = tl.zeros([G, P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        d = load_block(dy, c, t, channels, length, dy_c, dy_t)
        if SKIP:
            tl.store(d_skip + c[:, None] + t[None, :], d, mask=(c < channels)[:, None] & (t == 0)[None, :])
        e = d * _window(time, rates, shift, t, c, length, channels)
        layer = hidden_layer(z, parameters, freq, t, length, DEPTH, E, W, DEPTH, P)
        d_v = less_product(d_v, -e, layer)
        store_block(dl, product(tl.trans(e), v), t, w, length, W, W)
    store_block(at_last(sums + program * row_size, E, W, DEPTH), d_v, c, w, channels, W, W)


@triton.jit
def _sine_backward(
    dl, groups, u, freq, t, length, W: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Return da [T, P] from the dl of each group of channels, [groups, L, W]."""
    w = tl.arange(0, P)
    d = tl.zeros([t.shape[0], P], tl.float32)
    for _ in range(groups):
        d += load_block(dl, t, w, length, W, W, 1)
        dl += tl.cast(length, tl.int64) * W
    return d * sine(freq * u, 1)


@triton.jit
def _store_freq(at, value, new, W: tl.constexpr, P: tl.constexpr):
    """Store the sum with what the kernel of the layer above left, if there was one."""
    if not new:
        value += load_vector(at, W, P)
    store_vector(at, value, W, P)


@triton.jit
def _layer_backward(
    dl, groups, z, parameters, sums, row_size, programs, length,
    LAYER: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Compute, for a layer i > 1, its gradients and dl_{i-1}, in place of the first dl_i.

    No thread stores in a row of dl before all have loaded it: each number of the new row comes from all of the old one.
    """
    program = tl.program_id(0)
    w = tl.arange(0, P)
    freq = load_vector(at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    weight = load_block(at_weight(parameters, LAYER, E, W), w, w, W, W, W, 1)
    d_weight = tl.zeros([P, P], tl.float32)
    d_bias, d_freq = tl.zeros([P], tl.float32), tl.zeros([P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        below = hidden_layer(z, parameters, freq, t, length, LAYER - 1, E, W, DEPTH, P)
        u = next_layer(below, parameters, LAYER, E, W, DEPTH, P)
        d = _sine_backward(dl, groups, u, freq, t, length, W, P)
        d_freq += tl.sum(d * u, axis=0)
        d = freq * d
        d_bias += tl.sum(d, axis=0)
        d_weight = less_product(d_weight, tl.trans(-d), below)
        store_block(dl, product(d, weight), t, w, length, W, W)
    sums += program * row_size
    store_block(at_weight(sums, LAYER, E, W), d_weight, w, w, W, W, W)
    store_vector(at_bias(sums, LAYER, E, W, DEPTH), d_bias, W, P)
    _store_freq(at_freq(sums, E, W, DEPTH), d_freq, LAYER == DEPTH, W, P)


@triton.jit
def _first_backward(
    dl, groups, z, parameters, sums, row_size, programs, length,
    E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr, T: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the first layer, each program for F of the features."""
    program, block = tl.program_id(0) % programs, tl.program_id(0) // programs
    w, features = tl.arange(0, P), block * F + tl.arange(0, F)
    freq = load_vector(at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    d_weight = tl.zeros([P, F], tl.float32)
    d_bias, d_freq = tl.zeros([P], tl.float32), tl.zeros([P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        u = first_layer(z, parameters, t, length, E, W, DEPTH, P)
        d = _sine_backward(dl, groups, u, freq, t, length, W, P)
        d_freq += tl.sum(d * u, axis=0)
        d = freq * d
        d_bias += tl.sum(d, axis=0)
        d_weight = less_product(d_weight, tl.trans(-d), load_block(z, t, features, length, E, E, 1))
    sums += program * row_size
    store_block(sums, d_weight, w, features, W, E, E)
    if block == 0:
        store_vector(at_bias(sums, 1, E, W, DEPTH), d_bias, W, P)
        _store_freq(at_freq(sums, E, W, DEPTH), d_freq, DEPTH == 1, W, P)


def packed(network: SineNetwork) -> Tensor:
    """Return the parameters one after the other, as the kernels take them."""
    return torch.cat([parameter.reshape(-1) for parameter in flatten(network)])


def unpacked(row: Tensor, network: SineNetwork) -> list[Tensor]:
    """Return the views of a row of `packed` that have the shapes of the network's parameters, in their order."""
    shapes = [parameter.shape for parameter in flatten(network)]
    return [part.view(shape) for part, shape in zip(row.split([s.numel() for s in shapes]), shapes, strict=True)]


def values(
    features: Features, network: SineNetwork, parameters: Tensor, window: DecayWindow, skip: Tensor | None
) -> Tensor:
    """Compute the filter [C, L] at positions with these features; `parameters` are the network's, packed."""
    (z, time), rates = features, window.rates.contiguous()
    length, channels = len(time), len(network.last)
    y = torch.empty((channels, length), device=z.device)
    skip_or_nothing = rates if skip is None else skip.contiguous()
    launch(
        _filter,
        (triton.cdiv(length, TILE),),
        (y, z, time, parameters, rates, window.shift, skip_or_nothing, length, channels),
        reads=(z, time, parameters, rates, skip_or_nothing),
        writes=(y,),
        SKIP=skip is not None,
        T=TILE,
        G=GROUP,
        num_warps=WARPS,
        **_sizes(network),
    )
    return y


def gradients(
    dy: Tensor, features: Features, network: SineNetwork, parameters: Tensor, window: DecayWindow, skips: bool
) -> tuple[Tensor, Tensor | None]:
    """Compute the gradients of the parameters, packed as they are, and of skip if there is one, from dy [C, L]."""
    (z, time), rates = features, window.rates.contiguous()
    length, channels = len(time), len(network.last)
    sizes = _sizes(network)
    width, depth, features_of_z = sizes["W"], sizes["DEPTH"], sizes["E"]
    programs = min(PROGRAMS, triton.cdiv(length, TILE))
    groups = triton.cdiv(channels, GROUP)
    sums = torch.empty((programs, len(parameters)), device=z.device)
    dl = torch.empty((groups, length, width), device=z.device)
    d_skip = torch.empty(channels if skips else 1, device=z.device)
    launch(
        _last_backward,
        (programs * groups,),
        (
            dy,
            *dy.stride(),
            z,
            time,
            parameters,
            rates,
            window.shift,
            d_skip,
            dl,
            sums,
            len(parameters),
            programs,
            length,
            channels,
        ),
        reads=(dy, z, time, parameters, rates),
        writes=(dl, d_skip, sums[:, -network.last.numel() :]),
        SKIP=skips,
        T=TILE,
        G=GROUP,
        num_warps=BACKWARD_WARPS,
        **sizes,
    )
    for layer in range(depth, 1, -1):
        launch(
            _layer_backward,
            (programs,),
            (dl, groups if layer == depth else 1, z, parameters, sums, len(parameters), programs, length),
            reads=(dl if layer == depth else dl[0], z, parameters),
            writes=(dl[0], sums[:, : width * width]),
            LAYER=layer,
            T=TILE,
            num_warps=BACKWARD_WARPS,
            **sizes,
        )
    block = min(FEATURES, max(16, triton.next_power_of_2(features_of_z)))
    launch(
        _first_backward,
        (programs * triton.cdiv(features_of_z, block),),
        (dl, groups if depth == 1 else 1, z, parameters, sums, len(parameters), programs, length),
        reads=(dl if depth == 1 else dl[0], z, parameters),
        writes=(sums[:, : width * features_of_z],),
        T=TILE,
        F=block,
        num_warps=BACKWARD_WARPS,
        **sizes,
    )
    return sums.sum(0), d_skip if skips else None


def _sizes(network: SineNetwork) -> dict[str, Any]:
    """Return the constants that the kernels know a network by."""
    width, features = network.weights[0].shape
    padded = max(16, triton.next_power_of_2(width))
    return {"E": features, "W": width, "DEPTH": len(network.weights), "P": padded}
