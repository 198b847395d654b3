"""The Hyena operator between its two projections, a few channels at a time, in memory that a CPU's caches hold.

What is computed. Each of the N + 1 blocks of projected rows p goes through its short filter, s = short(p), which makes
s_0, ..., s_{N-1} and s_v of them. With N - 1 long filters k_j and * for the causal convolution,

    u_1 = s_{N-1} s_v        m_1 = k_1 * u_1
    u_j = s_{N-j} m_{j-1}        m_j = k_j * u_j        for j = 2, ..., N - 1
    y = s_0 m_{N-1}

Kept are the inputs and z = m_{N-1}, what the last gate meets; u and the other m are made again.

Backward, from dy, with corr(a, b)_t = sum over i >= t of a_i b_{i-t}, the adjoint of the convolution:

    ds_0 = dy m_{N-1}        dm_{N-1} = dy s_0
    dk_j = sum over B of corr(dm_j, u_j)        du_j = corr(dm_j, k_j)        for j = N - 1, ..., 1
    ds_{N-j} = du_j m_{j-1}        dm_{j-1} = du_j s_{N-j}        where m_0 is s_v
    dp, dtaps and dbias of each short filter from its ds, as in `gates`

A convolution multiplies spectra, a correlation multiplies by a conjugate: each of u, k and dm is transformed once.

Source: Hyena (arXiv 2302.10866), section 3. Plain reference: `hyena_dist.ops.reference.hyena`.

Shapes: C channels, B batch, L length, N order, K taps of the short filters. Channels come first; the (N + 1) C rows of
projections are those of x0, then those of x1, ..., then those of v.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv import gates
from hyena_dist.ops.conv.fft import transform
from hyena_dist.ops.conv.gates import real, real_dtype
from hyena_dist.ops.record_op import RecordOp
from hyena_dist.ops.records import Filters
from hyena_dist.ops.sizes import sizes_of


def hyena_operator(projected: Tensor, filters: Filters) -> Tensor:
    """The operator x0 * conv(x1 * conv(... x_{N-1} * v)), where x0, ..., x_{N-1}, v are short-filtered projections.

    Args:
        projected: [(N + 1) C, B, L], in any floating type; computed with in float32 (float64 for float64).
        filters: the short and long filters of the C channels.

    Returns:
        [C, B, L] in the type of `projected`. Differentiable once with respect to all arguments; keeps them and what
        the last gate meets, [C, B, L].

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    return OPERATOR(Inputs(projected, filters))


class Inputs(NamedTuple):
    """The arguments of `hyena_operator`, and their gradients."""

    projected: Tensor
    filters: Filters


class Kept(NamedTuple):
    """The tensors that a forward pass leaves for its backward pass."""

    z: Tensor
    """What the last gate meets, [C, B, L]."""


class Spectra(NamedTuple):
    """The two factors of one convolution in a block of c channels; F stands for the dimensions of a spectrum."""

    u: Tensor
    """Spectra of the sequences that are convolved, [c, B, F]."""
    k: Tensor
    """Spectra of the kernels, [c, 1, F]."""


def _forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    y, kept = _empty(inputs, keep)
    forward_in_blocks(inputs.projected, inputs.filters, y, kept.z if kept else None)
    return y, kept


def _empty(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    projected, filters = inputs
    y = projected.new_empty(filters.kernels.shape[1], *projected.shape[1:])
    return y, Kept(torch.empty_like(y)) if keep else None


def _kept(tensors: Sequence[Tensor]) -> Kept:
    return Kept(*tensors)


def _backward(dy: Tensor, inputs: Inputs, kept: Kept) -> Inputs:
    projected, filters = inputs
    gradients = Inputs(torch.empty_like(projected), Filters(*map(torch.empty_like, filters)))
    backward_in_blocks(dy, projected, filters, kept.z, gradients.projected, gradients.filters)
    return gradients


OPERATOR = RecordOp(
    "operator",
    "the Hyena operator",
    Inputs,
    forward=_forward,
    empty=_empty,
    kept=_kept,
    backward=_backward,
    triton="hyena_dist.ops.gpu.operator",
)


def forward_in_blocks(
    projected: Tensor, filters: Filters, y: Tensor, z: Tensor | None, keep: bool = False
) -> list[Spectra]:
    """Write the operator's value into y [C, B, L] and, if given, what its last gate meets into z [C, B, L].

    Returns:
        If asked to keep them, the spectra of each convolution of each block.
    """
    kept: list[Spectra] = []

    def convolve(u: Tensor, k: Tensor) -> Tensor:
        spectra = Spectra(fft.forward(u), fft.forward(k)[:, None])
        if keep:
            kept.append(spectra)
        return fft.inverse(spectra.u * spectra.k if keep else spectra.u.mul_(spectra.k))

    fft = transform(projected.shape[-1], real_dtype(projected), projected.device)
    for block in _blocks(projected, filters, fft.points):
        *outer, x, v = block.operands
        convolved = convolve(gates.gate_pair(*x, *v), block.kernels[0])
        for x, k in zip(outer[:0:-1], block.kernels[1:], strict=True):
            convolved = convolve(gates.gate(*x, convolved), k)
        if z is not None:
            z[block.channels] = convolved
        gates.gate(*outer[0], convolved, out=y[block.channels])
    return kept


def spectra_like(projected: Tensor, filters: Filters) -> list[Spectra]:
    """Return empty tensors of the shapes of the spectra that `forward_in_blocks` keeps."""
    dtype = real_dtype(projected)
    fft = transform(projected.shape[-1], dtype, projected.device)

    def empty(block: _Block, batch: int) -> Tensor:
        return projected.new_empty((block.kernels.shape[1], batch, *fft.shape), dtype=dtype.to_complex())

    blocks = _blocks(projected, filters, fft.points)
    return [Spectra(empty(block, projected.shape[1]), empty(block, 1)) for block in blocks for _ in block.kernels]


def backward_in_blocks(
    dy: Tensor,
    projected: Tensor,
    filters: Filters,
    z: Tensor,
    d_projected: Tensor,
    d_filters: Filters,
    y: Tensor | None = None,
    kept: Sequence[Spectra] = (),
) -> None:
    """Write the operator's gradients and, if `y` is given, once more its value.

    Args:
        dy: gradient of the value, [C, B, L].
        projected: the rows that `forward_in_blocks` was given, [(N + 1) C, B, L].
        filters: the filters that it was given.
        z: what the last gate met, as `forward_in_blocks` wrote it, [C, B, L].
        d_projected: where the gradient of `projected` is written, [(N + 1) C, B, L].
        d_filters: where the gradients of `filters` are written.
        y: where the value is written, [C, B, L].
        kept: the spectra that `forward_in_blocks` returned; without them they are computed again.
    """
    fft = transform(projected.shape[-1], real_dtype(projected), projected.device)
    known = iter(kept)
    blocks = zip(_blocks(projected, filters, fft.points), _blocks(d_projected, d_filters, fft.points), strict=True)
    for block, gradients in blocks:
        operands = block.operands
        last_met = real(z[block.channels])
        if y is not None:
            gates.gate(*operands[0], last_met, out=y[block.channels])
        # Again what forward did not keep: the spectra of each convolution, and what all gates but the last meet.
        u = None if kept else gates.gate_pair(*operands[-2], *operands[-1])
        spectra: list[Spectra] = []
        met: list[Tensor] = []
        for k, x in zip(block.kernels, [*operands[-3:0:-1], None], strict=True):
            spectra.append(next(known) if u is None else Spectra(fft.forward(u), fft.forward(k)[:, None]))
            if x is not None:
                met.append(fft.inverse(spectra[-1].u * spectra[-1].k))
                u = None if kept else gates.gate(*x, met[-1])
        met.append(last_met)
        d = dy[block.channels]
        gated = zip(operands[:-2], gradients.operands[:-2], gradients.kernels.unbind()[::-1], strict=True)
        for operand, gradient, d_kernel in gated:
            d_met, d_taps, d_bias = gates.gate_backward(d, *operand, met.pop(), gradient.rows)
            gradient.taps.copy_(d_taps)
            gradient.bias.copy_(d_bias)
            u_f, k_f = spectra.pop()
            d_f = fft.forward(d_met)
            d_k = torch.conj_physical(u_f).mul_(d_f)
            d_kernel.copy_(fft.inverse(d_k.sum(1) if d_k.shape[1] > 1 else d_k[:, 0]))  # complex sums are slow
            d = fft.inverse(d_f.mul_(torch.conj_physical(k_f)))  # a lazy conj() takes a slow path
        x, v = operands[-2:]
        of_x, of_v = gradients.operands[-2:]
        d_v, d_taps, d_bias = gates.gate_backward(d, *x, gates.short_filter(*v), of_x.rows)
        of_x.taps.copy_(d_taps)
        of_x.bias.copy_(d_bias)
        d_taps, d_bias = gates.short_filter_backward(d_v, v.rows, v.taps, of_v.rows)
        of_v.taps.copy_(d_taps)
        of_v.bias.copy_(d_bias)


class _Operand(NamedTuple):
    """One of x0, ..., x_{N-1}, v before its short filter, for c channels; or the gradients of these tensors."""

    rows: Tensor
    """Projected rows, [c, B, L]."""
    taps: Tensor
    """Taps of the short filter, [c, K]."""
    bias: Tensor
    """Bias of the short filter, [c]."""


class _Block(NamedTuple):
    """Views of the parts of all tensors that belong to c of the C channels."""

    channels: slice
    kernels: Tensor
    """The long filters of these channels, [N - 1, c, L]."""
    operands: list[_Operand]
    """The operands x0, ..., x_{N-1}, v of these channels, in this order."""


def _blocks(projected: Tensor, filters: Filters, points: int) -> Iterator[_Block]:
    channels = filters.kernels.shape[1]
    batch = projected.shape[1]
    size = max(1, sizes_of(projected.device).padded // (batch * points))
    parts = [t.view(-1, channels, *t.shape[1:]) for t in (projected, filters.taps, filters.bias)]
    for first in range(0, channels, size):
        block = slice(first, min(first + size, channels))
        operands = [_Operand(*of_one) for of_one in zip(*(part[:, block] for part in parts), strict=True)]
        yield _Block(block, filters.kernels[:, block], operands)
