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
its own, which has the layout of the parameters, W_1, ..., W_n, b_1, ..., b_n, f, V; the rows are added up afterwards.

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
def _sine(x, quarters: tl.constexpr):
    """Return sin(x + quarters pi / 2), to 3e-7 where |x| < 20,000.

    The library's sine has a branch for huge numbers, which takes a stack and much code for each number of a tile. Here
    x is moved by half turns to within pi / 2 of zero; pi has three parts, whose products with so few turns are exact.
    """
    turns = tl.floor(x * 0.3183098861837907 + (0.5 * quarters + 0.5))
    half = turns - 0.5 * quarters
    r = x - half * 3.140625 - half * 9.67502593994140625e-4 - half * 1.509957990978376432e-7
    s = r * r
    p = ((2.600022753540543e-06 * s - 1.980660017579794e-4) * s + 8.333017118275166e-3) * s - 1.6666656732559204e-1
    odd = turns - 2.0 * tl.floor(turns * 0.5)
    return (r + r * s * p) * (1.0 - 2.0 * odd)


@triton.jit
def _product(a, b):
    """Return a @ b with nearly the accuracy of float32."""
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def _less_product(sums, a, b):
    """Return sums - a @ b. A sum over many tiles is not left to the matrix units, as `+` would be: they truncate."""
    return sums - _product(a, b)


@triton.jit
def _vector(at, W: tl.constexpr, P: tl.constexpr):
    """Return W numbers, zero beyond them."""
    w = tl.arange(0, P)
    return tl.load(at + w, mask=w < W, other=0.0)


@triton.jit
def _store_vector(at, value, W: tl.constexpr, P: tl.constexpr):
    w = tl.arange(0, P)
    tl.store(at + w, value, mask=w < W)


@triton.jit
def _block(at, rows, columns, height, width, row_stride, column_stride):
    """Return a matrix's values at these rows and columns, zero where it has none."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(at + rows[:, None] * row_stride + columns[None, :] * column_stride, mask=inside, other=0.0)


@triton.jit
def _store_block(at, value, rows, columns, height, width, row_stride):
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(at + rows[:, None] * row_stride + columns[None, :], value, mask=inside)


# Where a row of parameters, or of their gradients, has W_i for i > 1 (W_1 is at its beginning), b_i, f and V.


@triton.jit
def _at_weight(row, i, E: tl.constexpr, W: tl.constexpr):
    return row + W * (E + (i - 2) * W)


@triton.jit
def _at_bias(row, i, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    return row + W * (E + (DEPTH - 1) * W + i - 1)


@triton.jit
def _at_freq(row, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    return _at_bias(row, DEPTH + 1, E, W, DEPTH)


@triton.jit
def _at_last(row, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    return _at_bias(row, DEPTH + 2, E, W, DEPTH)


@triton.jit
def _first(z, parameters, t, length, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr):
    """Return u_1 [T, P]; with a handful of features, no matter for matrix units."""
    w = tl.arange(0, P)
    u = tl.zeros([t.shape[0], P], tl.float32) + _vector(_at_bias(parameters, 1, E, W, DEPTH), W, P)[None, :]
    for feature in range(E):
        of_t = tl.load(z + t * E + feature, mask=t < length, other=0.0)
        u += of_t[:, None] * tl.load(parameters + w * E + feature, mask=w < W, other=0.0)[None, :]
    return u


@triton.jit
def _next(layer, parameters, i, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr):
    """Return u_i [T, P] from l_{i-1}, for i > 1."""
    w = tl.arange(0, P)
    transposed = _block(_at_weight(parameters, i, E, W), w, w, W, W, 1, W)
    return _product(layer, transposed) + _vector(_at_bias(parameters, i, E, W, DEPTH), W, P)[None, :]


@triton.jit
def _hidden(
    z, parameters, freq, t, length,
    LAYER: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Return l_i [T, P] of the layer i that LAYER says, at least 1."""
    u = _first(z, parameters, t, length, E, W, DEPTH, P)
    for i in range(2, LAYER + 1):
        u = _next(_sine(freq * u, 0), parameters, i, E, W, DEPTH, P)
    return _sine(freq * u, 0)


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
    freq = _vector(_at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    layer = tl.trans(_hidden(z, parameters, freq, t, length, DEPTH, E, W, DEPTH, P))
    for first in range(0, channels, G):
        c = first + tl.arange(0, G).to(tl.int64)
        v = _block(_at_last(parameters, E, W, DEPTH), c, tl.arange(0, P), channels, W, W, 1)
        value = _product(v, layer) * _window(time, rates, shift, t, c, length, channels)
        if SKIP:
            of_c = tl.load(skip + c, mask=c < channels, other=0.0)
            value += tl.where((t == 0)[None, :], of_c[:, None], 0.0)
        _store_block(y, value, c, t, channels, length, length)


@triton.jit
def _last_backward(
    dy, dy_c, dy_t, z, time, parameters, rates, shift, d_skip, dl, sums, row_size, programs, length, channels,
    SKIP: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr,
    T: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Compute a group's part of dl_n [L, W], and its dV and dskip."""
    program, group = tl.program_id(0) % programs, tl.program_id(0) // programs
    w, c = tl.arange(0, P), group * G + tl.arange(0, G).to(tl.int64)
    freq = _vector(_at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    v = _block(_at_last(parameters, E, W, DEPTH), c, w, channels, W, W, 1)
    dl += group.to(tl.int64) * length * W
    d_v = tl.zeros([G, P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        d = _block(dy, c, t, channels, length, dy_c, dy_t)
        if SKIP:
            tl.store(d_skip + c[:, None] + t[None, :], d, mask=(c < channels)[:, None] & (t == 0)[None, :])
        e = d * _window(time, rates, shift, t, c, length, channels)
        layer = _hidden(z, parameters, freq, t, length, DEPTH, E, W, DEPTH, P)
        d_v = _less_product(d_v, -e, layer)
        _store_block(dl, _product(tl.trans(e), v), t, w, length, W, W)
    _store_block(_at_last(sums + program * row_size, E, W, DEPTH), d_v, c, w, channels, W, W)


@triton.jit
def _sine_backward(
    dl, groups, u, freq, t, length, W: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Return da [T, P] from the dl of each group of channels, [groups, L, W]."""
    w = tl.arange(0, P)
    d = tl.zeros([t.shape[0], P], tl.float32)
    for _ in range(groups):
        d += _block(dl, t, w, length, W, W, 1)
        dl += length.to(tl.int64) * W
    return d * _sine(freq * u, 1)


@triton.jit
def _store_freq(at, value, new, W: tl.constexpr, P: tl.constexpr):
    """Store the sum with what the kernel of the layer above left, if there was one."""
    if not new:
        value += _vector(at, W, P)
    _store_vector(at, value, W, P)


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
    freq = _vector(_at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    weight = _block(_at_weight(parameters, LAYER, E, W), w, w, W, W, W, 1)
    d_weight = tl.zeros([P, P], tl.float32)
    d_bias, d_freq = tl.zeros([P], tl.float32), tl.zeros([P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        below = _hidden(z, parameters, freq, t, length, LAYER - 1, E, W, DEPTH, P)
        u = _next(below, parameters, LAYER, E, W, DEPTH, P)
        d = _sine_backward(dl, groups, u, freq, t, length, W, P)
        d_freq += tl.sum(d * u, axis=0)
        d = freq * d
        d_bias += tl.sum(d, axis=0)
        d_weight = _less_product(d_weight, tl.trans(-d), below)
        _store_block(dl, _product(d, weight), t, w, length, W, W)
    sums += program * row_size
    _store_block(_at_weight(sums, LAYER, E, W), d_weight, w, w, W, W, W)
    _store_vector(_at_bias(sums, LAYER, E, W, DEPTH), d_bias, W, P)
    _store_freq(_at_freq(sums, E, W, DEPTH), d_freq, LAYER == DEPTH, W, P)


@triton.jit
def _first_backward(
    dl, groups, z, parameters, sums, row_size, programs, length,
    E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr, T: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the first layer, each program for F of the features."""
    program, block = tl.program_id(0) % programs, tl.program_id(0) // programs
    w, features = tl.arange(0, P), block * F + tl.arange(0, F)
    freq = _vector(_at_freq(parameters, E, W, DEPTH), W, P)[None, :]
    d_weight = tl.zeros([P, F], tl.float32)
    d_bias, d_freq = tl.zeros([P], tl.float32), tl.zeros([P], tl.float32)
    for tile in tl.range(program, tl.cdiv(length, T), programs, disable_licm=True):
        t = tl.cast(tile, tl.int64) * T + tl.arange(0, T)
        u = _first(z, parameters, t, length, E, W, DEPTH, P)
        d = _sine_backward(dl, groups, u, freq, t, length, W, P)
        d_freq += tl.sum(d * u, axis=0)
        d = freq * d
        d_bias += tl.sum(d, axis=0)
        d_weight = _less_product(d_weight, tl.trans(-d), _block(z, t, features, length, E, E, 1))
    sums += program * row_size
    _store_block(sums, d_weight, w, features, W, E, E)
    if block == 0:
        _store_vector(_at_bias(sums, 1, E, W, DEPTH), d_bias, W, P)
        _store_freq(_at_freq(sums, E, W, DEPTH), d_freq, DEPTH == 1, W, P)


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
