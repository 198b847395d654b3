"""The Hyena operator between its two projections, a few channels at a time, in memory that a CPU's caches hold.

Shapes: C channels, B batch, L length, N order, K taps of the short filters. Channels come first; the (N + 1) C rows of
projections are those of x0, then those of x1, ..., then those of v.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.fft import transform
from hyena_dist.ops.conv.gates import gates_for, real, real_dtype
from hyena_dist.ops.differentiable_once import differentiable_once

BLOCK_ELEMENTS = 2**21
"""Numbers of one padded operand in a block of channels: a few such buffers fit a CPU's last-level cache."""


class Filters(NamedTuple):
    """What the operator gates and convolves with; also the gradients of that."""

    taps: Tensor
    """[(N + 1) C, K] of the causal short filters; the last one meets the present position."""
    bias: Tensor
    """[(N + 1) C] of the short filters."""
    kernels: Tensor
    """[N - 1, C, L], the first is applied first; float32 (float64)."""

    def empty_like(self) -> "Filters":
        """Tensors of these shapes."""
        return Filters(*map(torch.empty_like, self))


def hyena_operator(projected: Tensor, filters: Filters) -> Tensor:
    """The operator x0 * conv(x1 * conv(... x_{N-1} * v)), where x0, ..., x_{N-1}, v are short-filtered projections.

    Args:
        projected: [(N + 1) C, B, L], in any floating type; computed with in float32 (float64 for float64).
        filters: of these channels.

    Returns:
        [C, B, L] in the type of `projected`. Differentiable once with respect to all arguments; keeps them and what
        the last gate meets, [C, B, L].

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    y: Tensor = _operator(projected, *filters, torch.is_grad_enabled())[0]
    return y


@torch.library.custom_op("hyena_dist::operator", mutates_args=())
def _operator(projected: Tensor, taps: Tensor, bias: Tensor, kernels: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    y, z = _operator_shapes(projected, taps, bias, kernels, keep)
    forward_in_blocks(projected, Filters(taps, bias, kernels), y, z if keep else None)
    return y, z


@_operator.register_fake
def _operator_shapes(
    projected: Tensor, taps: Tensor, bias: Tensor, kernels: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    y = projected.new_empty(kernels.shape[1], *projected.shape[1:])
    return y, torch.empty_like(y) if keep else y.new_empty(0)


@torch.library.custom_op("hyena_dist::operator_backward", mutates_args=())
def _operator_backward(
    dy: Tensor, projected: Tensor, taps: Tensor, bias: Tensor, kernels: Tensor, z: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    filters = Filters(taps, bias, kernels)
    d_projected, d_filters = torch.empty_like(projected), filters.empty_like()
    backward_in_blocks(dy, projected, filters, z, d_projected, d_filters)
    return d_projected, *d_filters


@_operator_backward.register_fake
def _(dy: Tensor, projected: Tensor, taps: Tensor, bias: Tensor, kernels: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, (projected, taps, bias, kernels)))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:4], output[1])


def _backward(ctx: Any, dy: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return (None,) * 5
    return *_operator_backward(dy, *ctx.saved_tensors), None


_operator.register_autograd(_backward, setup_context=_keep)
differentiable_once(_operator_backward, "the Hyena operator")


def forward_in_blocks(
    projected: Tensor, filters: Filters, y: Tensor, z: Tensor | None, keep: bool = False
) -> list[Tensor]:
    """Write the operator's value into y [C, B, L] and, if given, what its last gate meets into z [C, B, L].

    Returns:
        If asked to keep them, the spectra of what is convolved and of the kernel, for each convolution of each block.
    """
    kept: list[Tensor] = []

    def convolve(u: Tensor, k: Tensor) -> Tensor:
        u_f, k_f = fft.forward(u), fft.forward(k)[:, None]
        if keep:
            kept.extend((u_f, k_f))
        return fft.inverse(u_f * k_f if keep else u_f.mul_(k_f))

    fft, gates = transform(projected.shape[-1], real_dtype(projected), projected.device), gates_for(projected.device)
    for block, kernels, (*outer, x, v) in _blocks(projected, filters, fft.points):
        convolved = convolve(gates.gate_pair(*x, *v), kernels[0])
        for x, k in zip(outer[:0:-1], kernels[1:], strict=True):
            convolved = convolve(gates.gate(*x, convolved), k)
        if z is not None:
            z[block] = convolved
        gates.gate(*outer[0], convolved, out=y[block])
    return kept


def spectra_like(projected: Tensor, filters: Filters) -> list[Tensor]:
    """Empty tensors of the shapes of what `forward_in_blocks` keeps."""
    dtype = real_dtype(projected)
    fft = transform(projected.shape[-1], dtype, projected.device)
    batches = (projected.shape[1], 1) * len(filters.kernels)
    blocks = [kernels.shape[1] for _, kernels, _ in _blocks(projected, filters, fft.points)]
    return [projected.new_empty((c, b, *fft.shape), dtype=dtype.to_complex()) for c in blocks for b in batches]


def backward_in_blocks(
    dy: Tensor,
    projected: Tensor,
    filters: Filters,
    z: Tensor,
    d_projected: Tensor,
    d_filters: Filters,
    y: Tensor | None = None,
    kept: Sequence[Tensor] = (),
) -> None:
    """Write the gradients and, if asked for, once more the value.

    Args:
        dy: [C, B, L].
        projected: as in forward.
        filters: as in forward.
        z: what forward wrote, [C, B, L].
        d_projected: to be written, [(N + 1) C, B, L].
        d_filters: to be written.
        y: to be written, [C, B, L].
        kept: what forward returned. Without it the spectra are computed again.
    """
    fft, gates = transform(projected.shape[-1], real_dtype(projected), projected.device), gates_for(projected.device)
    channels = filters.kernels.shape[1]
    d_short = [t.view(-1, channels, *t.shape[1:]) for t in (d_projected, d_filters.taps, d_filters.bias)]
    known = iter(kept)
    for block, kernels, operands in _blocks(projected, filters, fft.points):
        dx, d_taps, d_bias = ([*t[:, block]] for t in d_short)
        met = real(z[block])
        if y is not None:
            gates.gate(*operands[0], met, out=y[block])
        # Again what forward did not keep: the spectrum of each kernel, what it convolves and what the next gate meets.
        u, spectra, meets = None if kept else gates.gate_pair(*operands[-2], *operands[-1]), [], []
        for k, x in zip(kernels, [*operands[-3:0:-1], None], strict=True):
            u_f, k_f = (next(known), next(known)) if u is None else (fft.forward(u), fft.forward(k)[:, None])
            spectra.append((u_f, k_f))
            if x is not None:
                meets.append(fft.inverse(u_f * k_f))
                u = None if kept else gates.gate(*x, meets[-1])
        meets.append(met)
        d = dy[block]
        for i, d_kernel in enumerate(d_filters.kernels.unbind()[::-1]):
            d_met, d_taps[i][...], d_bias[i][...] = gates.gate_backward(d, *operands[i], meets.pop(), dx[i])
            u_f, k_f = spectra.pop()
            d_f = fft.forward(d_met)
            d_k = torch.conj_physical(u_f).mul_(d_f)
            d_kernel[block] = fft.inverse(d_k.sum(1) if d_k.shape[1] > 1 else d_k[:, 0])  # complex sums are slow
            d = fft.inverse(d_f.mul_(torch.conj_physical(k_f)))  # a lazy conj() takes a slow path
        v = gates.short_filter(*operands[-1])
        d_v, d_taps[-2][...], d_bias[-2][...] = gates.gate_backward(d, *operands[-2], v, dx[-2])
        d_taps[-1][...], d_bias[-1][...] = gates.short_filter_backward(d_v, *operands[-1][:2], dx[-1])


def _blocks(
    projected: Tensor, filters: Filters, points: int
) -> Iterator[tuple[slice, Tensor, list[tuple[Tensor, Tensor, Tensor]]]]:
    """For a few channels each: which, their kernels, and (rows, taps, bias) of each of x0, ..., x_{N-1}, v."""
    channels, batch = filters.kernels.shape[1], projected.shape[1]
    size = max(1, BLOCK_ELEMENTS // (batch * points))
    parts = [t.view(-1, channels, *t.shape[1:]) for t in (projected, filters.taps, filters.bias)]
    for first in range(0, channels, size):
        block = slice(first, min(first + size, channels))
        yield block, filters.kernels[:, block], list(zip(*(part[:, block] for part in parts), strict=True))
