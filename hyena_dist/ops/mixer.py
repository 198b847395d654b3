"""The whole Hyena mixer, from the residual stream to the output projection, in one function that keeps little.

Projections are made for a group of channels at a time, with the positions last, so that nothing is transposed; backward
makes them again. What is kept is the residual stream, which is there anyway, the kernels, and what the last gate meets.

Shapes: S positions, B batch, D d_model, C channels, N order, K taps.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.differentiable_once import differentiable_once
from hyena_dist.ops.hyena import Filters, backward_in_blocks, forward_in_blocks
from hyena_dist.ops.norm import LayerNorm

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


def hyena_mixer(x: Tensor, norm: LayerNorm, projections: Projections, filters: Filters) -> Tensor:
    """out_proj(hyena_operator(in_proj(norm(x)))), where everything is in one process.

    Args:
        x: [S, B, D], the residual stream, in the parameters' type.
        norm: over D; products are in the type of its output.
        projections: in the parameters' type.
        filters: of the C channels.

    Returns:
        [S, B, D] in the type of the norm's output. Differentiable once with respect to all tensors.

    Source: Hyena (arXiv 2302.10866), section 3.
    """
    keep = torch.is_grad_enabled()
    y: Tensor = _mixer(x, *norm[:2], *projections, *filters, norm.eps, norm.dtype, keep)[0]
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
    keep: bool,
) -> tuple[Tensor, Tensor]:
    h = LayerNorm(norm_weight, norm_bias, eps, dtype).forward(_sequences_first(x))
    y = h.new_empty(kernels.shape[1], x.shape[1], x.shape[0])
    z = torch.empty_like(y) if keep else None
    for group in _groups(kernels, x.shape[1]):
        weight, bias, *short = (_of(t, group, kernels) for t in (in_weight, in_bias, taps, taps_bias))
        projected = torch.addmm(bias.to(dtype)[:, None], weight.to(dtype), h.t()).view(-1, *y.shape[1:])
        filters = Filters(*short, kernels[:, group])
        forward_in_blocks(projected, filters, y[group], None if z is None else z[group])
    out = torch.addmm(out_bias.to(dtype), y.flatten(1).t(), out_weight.to(dtype).t())
    return _positions_first(out, x), y.new_empty(0) if z is None else z


@_mixer.register_fake
def _(x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    kernels, _, dtype, keep = inputs[-4:]
    z = x.new_empty((kernels.shape[1], x.shape[1], x.shape[0]) if keep else 0, dtype=dtype)
    return x.new_empty(x.shape, dtype=dtype), z


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
    z: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype, norm = d_out.dtype, LayerNorm(norm_weight, norm_bias, eps, d_out.dtype)
    rows, d_rows = _sequences_first(x), _sequences_first(d_out)
    h = norm.forward(rows)
    dh: Tensor | None = None
    parameters = (in_weight, in_bias, out_weight, out_bias, taps, taps_bias, kernels)
    gradients = d_in_weight, d_in_bias, d_out_weight, d_out_bias, d_taps, d_taps_bias, d_kernels = [
        torch.empty_like(t) for t in parameters
    ]
    d_out_bias[...] = d_rows.sum(0, dtype=d_out_bias.dtype)
    for group in _groups(kernels, x.shape[1]):
        weight, bias, *short = (_of(t, group, kernels) for t in (in_weight, in_bias, taps, taps_bias))
        weight, filters = weight.to(dtype), Filters(*short, kernels[:, group])
        projected = torch.addmm(bias.to(dtype)[:, None], weight, h.t()).view(-1, *z.shape[1:])
        dy = torch.mm(out_weight[:, group].to(dtype).t(), d_rows.t()).view(-1, *z.shape[1:])
        y, d_projected = torch.empty_like(dy), torch.empty_like(projected)
        d_filters = Filters(torch.empty_like(filters.taps), torch.empty_like(filters.bias), d_kernels[:, group])
        backward_in_blocks(dy, projected, filters, z[group], d_projected, d_filters, y)
        d_columns = d_projected.flatten(1)
        d_out_weight[:, group] = torch.mm(d_rows.t(), y.flatten(1).t())
        d_of_group = (torch.mm(d_columns, h), d_columns.sum(1, dtype=d_in_bias.dtype), d_filters.taps, d_filters.bias)
        for whole, part in zip((d_in_weight, d_in_bias, d_taps, d_taps_bias), d_of_group, strict=True):
            _put(whole, group, kernels, part)
        dh = torch.mm(d_columns.t(), weight) if dh is None else dh.addmm_(d_columns.t(), weight)
    assert dh is not None
    dx, d_norm_weight, d_norm_bias = norm.backward(dh, rows)
    return _positions_first(dx, x), d_norm_weight, d_norm_bias, *gradients


@_mixer_backward.register_fake
def _(d_out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, inputs[:10]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:10], output[1])
    ctx.eps = inputs[10]


def _backward(ctx: Any, d_out: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if d_out is None:
        return (None,) * 13
    return *_mixer_backward(d_out, *ctx.saved_tensors, ctx.eps), None, None, None


_mixer.register_autograd(_backward, setup_context=_keep)
differentiable_once(_mixer_backward, "the Hyena mixer")


def _groups(kernels: Tensor, batch: int) -> Iterator[slice]:
    """Slices of the C channels, as even as their number allows."""
    n, channels, length = kernels.shape[0] + 2, kernels.shape[1], kernels.shape[2]
    most = max(SMALLEST_GROUP, GROUP_ELEMENTS // (n * batch * length))
    size = -(-channels // -(-channels // most))
    for first in range(0, channels, size):
        yield slice(first, min(first + size, channels))


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
