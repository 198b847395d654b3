"""The whole Hyena mixer, from the residual stream to the output projection, in one operator that keeps little.

What is computed. With h the standardised rows of x, W', c' the first projection with the norm folded in (`norm`), and
`operator` the Hyena operator (`conv.gated`),

    p = W' h^T + c'        channels first: nothing is transposed
    y = operator(p)
    out = y^T W_o^T + c_o  (+ x)

Backward, from d_out:

    dW_o = d_out^T y^T        dc_o = sum of d_out        dy = W_o^T d_out^T
    dp, dtaps, dbias, dkernels = operator's gradients from dy
    dW' = dp h        dc' = sum of dp
    dh = dp^T W'        dx as in `norm`  (+ d_out)

Projections are made for a group of channels at a time; backward makes them and y again. Kept are the inputs (the
residual stream is there anyway) and z, what the last gate meets. A short residual stream keeps all.

Source: Hyena (arXiv 2302.10866), section 3. Plain reference: `hyena_dist.ops.reference.hyena`.

Shapes: S positions, B batch, D d_model, C channels, N order, K taps, G = (N + 1) c rows of a group of c channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gated import Spectra, backward_in_blocks, forward_in_blocks, spectra_like
from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.fused.norm import Folded, fold, standardise, standardise_backward, tiles, unfold_gradients
from hyena_dist.ops.fused.products import add_product, dense
from hyena_dist.ops.record_op import RecordOp
from hyena_dist.ops.records import Filters, NormInput, Projections
from hyena_dist.ops.sizes import sizes_of

SMALLEST_GROUP = 16
"""Channels of a matrix product that still runs at a good rate."""


def hyena_mixer(
    x: Tensor, norm: NormInput, projections: Projections, filters: Filters, residual: bool = False
) -> Tensor:
    """Return out_proj(hyena_operator(in_proj(norm(x)))), where everything is in one process.

    Args:
        x: [S, B, D], the residual stream, in the parameters' type; best with each sequence together in memory.
        norm: the norm before the mixer, over D; products are in the type of its output.
        projections: the dense layers at both ends, in the parameters' type.
        filters: the short and long filters of the C channels.
        residual: return the sum with x, in the type of x.

    Returns:
        [S, B, D] in the type of the norm's output, laid out as x is. Differentiable once with respect to all tensors.

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    return OPERATOR(Inputs(x, norm, projections, filters, residual))


class Inputs(NamedTuple):
    """The arguments of `hyena_mixer`, and their gradients."""

    x: Tensor
    norm: NormInput
    projections: Projections
    filters: Filters
    residual: bool


class Everything(NamedTuple):
    """The tensors that a short residual stream keeps besides z, so that backward computes nothing again."""

    y: Tensor
    """The operator's value, [C, B S]."""
    projected: Tensor
    """The operator's input, [(N + 1) C, B S]."""
    spectra: list[Spectra]
    """The spectra of each convolution of each block."""


class Kept(NamedTuple):
    """The tensors that a forward pass leaves for its backward pass."""

    z: Tensor
    """What the last gate meets, [C, B, S]."""
    everything: Everything | None
    """The further tensors of a short residual stream; None for a long one."""


def _forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    x, norm, projections, filters, residual = inputs
    rows = _sequences_first(x)
    channels = filters.kernels.shape[1]
    shape = (x.shape[1], x.shape[0])
    keep_all = keep and _keeps_all(filters, x)
    y = _new_rows(x, channels, norm.dtype)
    z = new_empty(x, (channels, *shape), norm.dtype) if keep else None
    groups = _groups(filters, x)
    # One buffer for all groups: new memory costs more than what is written to it.
    buffer = _new_rows(x, _rows_per_channel(filters) * groups[0].stop, norm.dtype)
    spectra: list[Spectra] = []
    for group in groups:
        part = _part_of(inputs, group)
        projected = _projected(rows, norm, fold(norm, part.in_weight, part.in_bias), buffer)
        of_group = y[group].unflatten(1, shape), None if z is None else z[group]
        spectra = forward_in_blocks(projected.unflatten(1, shape), part.filters, *of_group, keep_all)
    out = new_empty(x, rows.shape, x.dtype if residual else norm.dtype)
    weight = projections.out_weight.to(norm.dtype)
    for tile in tiles(rows):
        dense(y[:, tile].t(), weight, projections.out_bias, out[tile], rows[tile] if residual else None)
    everything = Everything(y, buffer, spectra) if keep_all else None
    return _positions_first(out, x), None if z is None else Kept(z, everything)


def _empty(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    x, norm, _, filters, residual = inputs
    out = torch.empty_like(x, dtype=x.dtype if residual else norm.dtype)
    if not keep:
        return out, None
    channels = filters.kernels.shape[1]
    shape = (x.shape[1], x.shape[0])
    everything = None
    if _keeps_all(filters, x):
        projected = _new_rows(x, len(filters.taps), norm.dtype)
        spectra = spectra_like(projected.unflatten(1, shape), filters)
        everything = Everything(_new_rows(x, channels, norm.dtype), projected, spectra)
    return out, Kept(x.new_empty((channels, *shape), dtype=norm.dtype), everything)


def _kept(tensors: Sequence[Tensor]) -> Kept:
    z, *rest = tensors
    if not rest:
        return Kept(z, None)
    y, projected, *flat = rest
    spectra = [Spectra(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
    return Kept(z, Everything(y, projected, spectra))


def _backward(d_out: Tensor, inputs: Inputs, kept: Kept) -> Inputs:
    x, norm, projections, filters, residual = inputs
    z, everything = kept
    rows = _sequences_first(x)
    d_sum = _sequences_first(d_out)
    d_rows = d_sum.to(norm.dtype)
    gradients = inputs._replace(
        norm=norm._replace(weight=torch.zeros_like(norm.weight), bias=torch.zeros_like(norm.bias)),
        projections=Projections(*(new_empty(t, t.shape) for t in projections)),
        filters=Filters(*(new_empty(t, t.shape) for t in filters)),
    )

    def split(columns: Tensor) -> Tensor:
        """Return columns [G, B S] as [G, B, S]."""
        return columns.unflatten(1, z.shape[1:])

    gradients.projections.out_bias.copy_(d_sum.sum(0, dtype=gradients.projections.out_bias.dtype))
    dh = new_empty(x, rows.shape, norm.dtype)
    groups = _groups(filters, x)
    widest = groups[0].stop
    per_channel = _rows_per_channel(filters)
    d_buffer = _new_rows(x, per_channel * widest, norm.dtype)
    dy_buffer = _new_rows(x, widest, norm.dtype)
    y_buffer = everything.y if everything else _new_rows(x, widest, norm.dtype)
    buffer = everything.projected if everything else _new_rows(x, per_channel * widest, norm.dtype)
    for group in groups:
        part = _part_of(inputs, group)
        of_part = part.filters
        d_filters = Filters(
            torch.empty_like(of_part.taps), torch.empty_like(of_part.bias), gradients.filters.kernels[:, group]
        )
        folded = fold(norm, part.in_weight, part.in_bias)
        projected = buffer if everything else _projected(rows, norm, folded, buffer)
        d_projected = d_buffer[: len(part.in_weight)]
        y, dy = y_buffer[: len(z[group])], dy_buffer[: len(z[group])]
        torch.mm(projections.out_weight[:, group].to(norm.dtype).t(), d_rows.t(), out=dy)
        operands = split(dy), split(projected), of_part, z[group], split(d_projected), d_filters
        if everything:
            backward_in_blocks(*operands, kept=everything.spectra)
        else:
            backward_in_blocks(*operands, y=split(y))
        gradients.projections.out_weight[:, group] = torch.mm(d_rows.t(), y.t())
        d_bias = d_projected.sum(1).to(projections.in_bias.dtype)  # sum(dtype=...) would first make a copy
        d_folded = _projected_backward(d_projected, rows, norm, folded, dh, add=group.start > 0)
        unfolded = unfold_gradients(d_folded, d_bias, norm, part.in_weight)
        gradients.norm.weight.add_(unfolded.norm_weight)
        gradients.norm.bias.add_(unfolded.norm_bias)
        _put(gradients, group, _Part(unfolded.weight, d_bias, d_filters))
    dx = dh if dh.dtype == x.dtype else new_empty(x, rows.shape)
    for tile in tiles(rows):
        _, moments = standardise(rows[tile], norm)
        standardise_backward(dh[tile], rows[tile], moments, dx[tile], d_sum[tile] if residual else None)
    return gradients._replace(x=_positions_first(dx, x))


OPERATOR = RecordOp(
    "mixer",
    "the Hyena mixer",
    Inputs,
    forward=_forward,
    empty=_empty,
    kept=_kept,
    backward=_backward,
    triton="hyena_dist.ops.gpu.mixer",
)


class _Part(NamedTuple):
    """The parameters of a group of c channels, or their gradients."""

    in_weight: Tensor
    """Weight of the first projection, [G, D]."""
    in_bias: Tensor
    """Bias of the first projection, [G]."""
    filters: Filters


def _part_of(inputs: Inputs, group: slice) -> _Part:
    """Return copies of the group's rows of each of the N + 1 blocks of C, and a view of its kernels."""
    projections, filters = inputs.projections, inputs.filters
    channels = filters.kernels.shape[1]

    def rows_of(parameter: Tensor) -> Tensor:
        return parameter.view(-1, channels, *parameter.shape[1:])[:, group].flatten(0, 1)

    of_group = Filters(rows_of(filters.taps), rows_of(filters.bias), filters.kernels[:, group])
    return _Part(rows_of(projections.in_weight), rows_of(projections.in_bias), of_group)


def _put(gradients: Inputs, group: slice, part: _Part) -> None:
    """Write the gradients of the group's rows where `_part_of` takes rows from; those of its kernels are there."""
    projections, filters = gradients.projections, gradients.filters
    channels = filters.kernels.shape[1]
    wholes = (projections.in_weight, projections.in_bias, filters.taps, filters.bias)
    parts = (part.in_weight, part.in_bias, part.filters.taps, part.filters.bias)
    for whole, values in zip(wholes, parts, strict=True):
        blocks = whole.view(-1, channels, *whole.shape[1:])
        blocks[:, group] = values.view(len(blocks), -1, *whole.shape[1:])


def _projected(rows: Tensor, norm: NormInput, folded: Folded, buffer: Tensor) -> Tensor:
    """Return the projections p [G, B S] in the buffer's first rows; the standardised rows h are never there whole."""
    y = buffer[: len(folded.weight)]
    for tile in tiles(rows):
        h, _ = standardise(rows[tile], norm)
        torch.addmm(folded.bias[:, None], folded.weight, h.t(), out=y[:, tile])
    return y


def _projected_backward(dp: Tensor, rows: Tensor, norm: NormInput, folded: Folded, dh: Tensor, add: bool) -> Tensor:
    """Write the gradient of the standardised rows into dh [B S, D] or add it; return the folded weight's [G, D]."""
    d_weight = torch.zeros_like(folded.weight, dtype=rows.dtype)
    for tile in tiles(rows):
        h, _ = standardise(rows[tile], norm)
        add_product(d_weight, dp[:, tile], h)
        dh[tile].addmm_(dp[:, tile].t(), folded.weight, beta=int(add))
    return d_weight


def _new_rows(x: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return rows [count, B S] with gaps: rows at a power of two share lines of the caches, at 0.75 of the speed.

    The gaps are zeros: CPUs with matrix units (AMX) multiply what lies behind a row's end by zero, which may be NaN.
    """
    columns = x.numel() // x.shape[-1]
    rows = new_empty(x, (count, columns + 32), dtype)
    rows[:, columns:] = 0
    return rows[:, :columns]


def _rows_per_channel(filters: Filters) -> int:
    """Return N + 1, the number of projections that each channel has."""
    return len(filters.kernels) + 2


def _keeps_all(filters: Filters, x: Tensor) -> bool:
    """Return whether the C channels' numbers are few, and all channels are one group."""
    return keeps_all(x.shape[1] * filters.kernels[0].numel(), x.device) and len(_groups(filters, x)) == 1


def _groups(filters: Filters, x: Tensor) -> list[slice]:
    """Return slices of the C channels, the first the widest."""
    channels = filters.kernels.shape[1]
    at_once = sizes_of(x.device).projections // (_rows_per_channel(filters) * x.shape[0] * x.shape[1])
    most = max(SMALLEST_GROUP, at_once)
    size = -(-channels // -(-channels // most))
    return [slice(first, min(first + size, channels)) for first in range(0, channels, size)]


def _sequences_first(x: Tensor) -> Tensor:
    """Return x [S, B, D] as [B S, D], a sequence's positions together; a view if they are so in memory."""
    return x.transpose(0, 1).reshape(-1, x.shape[-1])


def _positions_first(rows: Tensor, x: Tensor) -> Tensor:
    """Return rows [B S, D] as [S, B, D] in the layout of x; a view if that has a sequence's positions together."""
    y = rows.view(x.shape[1], x.shape[0], -1).transpose(0, 1)
    return y if x.transpose(0, 1).is_contiguous() else y.contiguous()
