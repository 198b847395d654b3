"""The whole Hyena mixer, from the residual stream to the output projection, in one function that keeps little.

Projections are made for a group of channels at a time, with the positions last, so that nothing is transposed; backward
makes them again. What is kept is the residual stream, which is there anyway, the kernels, and what the last gate meets.

Shapes: S positions, B batch, D d_model, C channels, N order, K taps.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gated import Filters, backward_in_blocks, forward_in_blocks, spectra_like
from hyena_dist.ops.differentiable_once import differentiable_once
from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.fused.norm import Moments, NormInput, tiles

GROUP_ELEMENTS = 2**24
"""Numbers of the projections that are in memory at a time; at least those of `SMALLEST_GROUP` channels."""

SMALLEST_GROUP = 16
"""Channels of a matrix product that still runs at a good rate."""


class Projections(NamedTuple):
    """The dense layers at both ends of the operator."""

    in_weight: Tensor
    """[(N + 1) C, D]."""
    in_bias: Tensor
    """[(N + 1) C]."""
    out_weight: Tensor
    """[D, C]."""
    out_bias: Tensor
    """[D]."""


def hyena_mixer(
    x: Tensor, norm: NormInput, projections: Projections, filters: Filters, residual: bool = False
) -> Tensor:
    """out_proj(hyena_operator(in_proj(norm(x)))), where everything is in one process.

    Args:
        x: [S, B, D], the residual stream, in the parameters' type.
        norm: over D; products are in the type of its output.
        projections: in the parameters' type.
        filters: of the C channels.
        residual: return the sum with x, in the type of x.

    Returns:
        [S, B, D] in the type of the norm's output. Differentiable once with respect to all tensors.

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    keep = torch.is_grad_enabled()
    y: Tensor = _mixer(x, *norm[:2], *projections, *filters, norm.eps, norm.dtype, residual, keep)[0]
    return y


@torch.library.custom_op("hyena_dist::mixer", mutates_args=())
def _mixer(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    taps: Tensor,
    taps_bias: Tensor,
    kernels: Tensor,
    eps: float,
    dtype: torch.dtype,
    residual: bool,
    keep: bool,
) -> tuple[Tensor, list[Tensor]]:
    rows, shape = _sequences_first(x), (x.shape[1], x.shape[0])
    norm, channels = NormInput(norm_weight, norm_bias, eps, dtype), kernels.shape[1]
    moments = norm.moments(rows)
    y = _new_rows(x, channels, dtype)
    z = new_empty(x, (channels, *shape), dtype) if keep else None
    groups, keep_all = _groups(kernels, x.shape[1]), keep and _keeps_all(kernels, x.shape[1])
    # One buffer for all groups: new memory costs more than what is written to it.
    buffer = _new_rows(x, (len(kernels) + 2) * groups[0].stop, dtype)
    spectra: list[Tensor] = []
    for group in groups:
        weight, bias, *short = (_of(t, group, kernels) for t in (in_weight, in_bias, taps, taps_bias))
        projected = _projected(rows, norm, moments, *norm.into(weight, bias), buffer).unflatten(1, shape)
        filters = Filters(short[0], short[1], kernels[:, group])
        of_group = y[group].unflatten(1, shape), None if z is None else z[group]
        spectra = forward_in_blocks(projected, filters, *of_group, keep_all)
    out = new_empty(x, rows.shape, x.dtype if residual else dtype)
    bias, weight = out_bias.to(dtype), out_weight.to(dtype).t()
    for tile in tiles(rows):
        product = torch.addmm(bias, y[:, tile].t(), weight)
        out[tile] = product.add(rows[tile]) if residual else product
    return _positions_first(out, x), [] if z is None else [z, y, buffer, *spectra] if keep_all else [z]


@_mixer.register_fake
def _(x: Tensor, *inputs: Any) -> tuple[Tensor, list[Tensor]]:
    taps, taps_bias, kernels, _, dtype, residual, keep = inputs[-7:]
    channels, shape = kernels.shape[1], (x.shape[1], x.shape[0])
    kept = [x.new_empty((channels, *shape), dtype=dtype)] if keep else []
    if keep and _keeps_all(kernels, x.shape[1]):
        projected = _new_rows(x, len(taps), dtype)
        spectra = spectra_like(projected.unflatten(1, shape), Filters(taps, taps_bias, kernels))
        kept += [_new_rows(x, channels, dtype), projected, *spectra]
    return x.new_empty(x.shape, dtype=x.dtype if residual else dtype), kept


@torch.library.custom_op("hyena_dist::mixer_backward", mutates_args=())
def _mixer_backward(
    d_out: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    taps: Tensor,
    taps_bias: Tensor,
    kernels: Tensor,
    kept: list[Tensor],
    eps: float,
    dtype: torch.dtype,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    norm, (z, *all_kept) = NormInput(norm_weight, norm_bias, eps, dtype), kept
    rows, d_sum = _sequences_first(x), _sequences_first(d_out)
    d_rows, moments = d_sum.to(dtype), norm.moments(rows)
    parameters = (in_weight, in_bias, out_weight, out_bias, taps, taps_bias, kernels)
    gradients = d_in_weight, d_in_bias, d_out_weight, d_out_bias, d_taps, d_taps_bias, d_kernels = [
        new_empty(t, t.shape) for t in parameters
    ]

    def split(columns: Tensor) -> Tensor:
        """[R, B S] -> [R, B, S]."""
        return columns.unflatten(1, z.shape[1:])

    d_out_bias[...] = d_sum.sum(0, dtype=d_out_bias.dtype)
    d_norm = [torch.zeros_like(norm_weight), torch.zeros_like(norm_bias)]
    dh = new_empty(x, rows.shape, dtype).zero_()
    groups = _groups(kernels, x.shape[1])
    widest, blocks = groups[0].stop, len(kernels) + 2
    d_buffer, dy_buffer = (_new_rows(x, n * widest, dtype) for n in (blocks, 1))
    y_buffer, buffer, *spectra = all_kept or [_new_rows(x, n * widest, dtype) for n in (1, blocks)]
    for group in groups:
        weight, bias, *short = (_of(t, group, kernels) for t in (in_weight, in_bias, taps, taps_bias))
        filters = Filters(short[0], short[1], kernels[:, group])
        d_filters = Filters(torch.empty_like(filters.taps), torch.empty_like(filters.bias), d_kernels[:, group])
        folded, bias = norm.into(weight, bias)
        projected = buffer if all_kept else _projected(rows, norm, moments, folded, bias, buffer)
        d_projected, y, dy = d_buffer[: len(weight)], y_buffer[: len(z[group])], dy_buffer[: len(z[group])]
        torch.mm(out_weight[:, group].to(dtype).t(), d_rows.t(), out=dy)
        again = None if all_kept else split(y)
        backward_in_blocks(
            split(dy), split(projected), filters, z[group], split(d_projected), d_filters, again, spectra
        )
        d_out_weight[:, group] = torch.mm(d_rows.t(), y.t())
        d_bias = d_projected.sum(1).to(d_in_bias.dtype)  # sum(dtype=...) would first make a copy
        d_folded = _projected_backward(d_projected, rows, norm, moments, folded, dh)
        d_weight, *of_norm = norm.out_of(d_folded, d_bias, weight)
        for gradient, part in zip(d_norm, of_norm, strict=True):
            gradient += part
        of_group = (d_weight, d_bias, d_filters.taps, d_filters.bias)
        for gradient, part in zip((d_in_weight, d_in_bias, d_taps, d_taps_bias), of_group, strict=True):
            _put(gradient, group, kernels, part)
    dx = norm.backward(dh, rows, moments, d_sum if residual else None)
    return _positions_first(dx, x), *d_norm, *gradients  # type: ignore[return-value]


@_mixer_backward.register_fake
def _(d_out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, inputs[:10]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:10], *output[1])
    ctx.rest = inputs[10:13]


def _backward(ctx: Any, d_out: Tensor | None, _: list[None]) -> tuple[Tensor | None, ...]:
    if d_out is None:
        return (None,) * 14
    saved = ctx.saved_tensors  # once: under activation checkpointing a second look is an error
    return *_mixer_backward(d_out, *saved[:10], [*saved[10:]], *ctx.rest), None, None, None, None


_mixer.register_autograd(_backward, setup_context=_keep)
differentiable_once(_mixer_backward, "the Hyena mixer")


def _projected(rows: Tensor, norm: NormInput, moments: Moments, weight: Tensor, bias: Tensor, buffer: Tensor) -> Tensor:
    """Weight @ h.t() + bias, [R, B S], in the buffer's first rows; h, the standardised rows, is never there whole."""
    y = buffer[: len(weight)]
    for tile in tiles(rows):
        h = norm.standard(rows[tile], moments.of(tile))
        torch.addmm(bias[:, None], weight, h.t(), out=y[:, tile])
    return y


def _projected_backward(
    dy: Tensor, rows: Tensor, norm: NormInput, moments: Moments, weight: Tensor, dh: Tensor
) -> Tensor:
    """Add the gradient of the standardised rows to dh [B S, D] and return that of the weight."""
    d_weight = torch.zeros_like(weight, dtype=rows.dtype)
    for tile in tiles(rows):
        d_weight += torch.mm(dy[:, tile], norm.standard(rows[tile], moments.of(tile)))
        dh[tile].addmm_(dy[:, tile].t(), weight)
    return d_weight


def _new_rows(x: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """[count, B S] a bit further apart: rows at a power of two share lines of the caches, at 0.75 of the speed.

    The gaps are zeros: CPUs with matrix units (AMX) multiply what lies behind a row's end by zero, which may be NaN.
    """
    columns = x.numel() // x.shape[-1]
    rows = new_empty(x, (count, columns + 32), dtype)
    rows[:, columns:] = 0
    return rows[:, :columns]


def _keeps_all(kernels: Tensor, batch: int) -> bool:
    return keeps_all(batch * kernels[0].numel()) and len(_groups(kernels, batch)) == 1


def _groups(kernels: Tensor, batch: int) -> list[slice]:
    """Slices of the C channels, the first the widest."""
    n, channels, length = kernels.shape[0] + 2, kernels.shape[1], kernels.shape[2]
    most = max(SMALLEST_GROUP, GROUP_ELEMENTS // (n * batch * length))
    size = -(-channels // -(-channels // most))
    return [slice(first, min(first + size, channels)) for first in range(0, channels, size)]


def _of(rows: Tensor, group: slice, kernels: Tensor) -> Tensor:
    """The group's rows of each of the N + 1 blocks of C."""
    return rows.view(-1, kernels.shape[1], *rows.shape[1:])[:, group].flatten(0, 1)


def _put(rows: Tensor, group: slice, kernels: Tensor, values: Tensor) -> None:
    """Assign to `_of`."""
    whole = rows.view(-1, kernels.shape[1], *rows.shape[1:])
    whole[:, group] = values.view(len(whole), -1, *rows.shape[1:])


def _sequences_first(x: Tensor) -> Tensor:
    """[S, B, D] -> [B S, D], the positions of a sequence together; a view if there is one sequence."""
    return x.transpose(0, 1).reshape(-1, x.shape[-1])


def _positions_first(rows: Tensor, x: Tensor) -> Tensor:
    """[B S, ...] -> [S, B, ...], S and B those of x."""
    return rows.view(x.shape[1], x.shape[0], -1).transpose(0, 1).contiguous()
