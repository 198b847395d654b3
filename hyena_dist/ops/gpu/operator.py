"""The Hyena operator in Triton kernels: three launches a convolution, one for a short one, and no tensor between them.

What is computed, and the names, are those of `ops.conv.gated`:

    u_1 = s_{N-1} s_v        m_j = k_j * u_j        u_j = s_{N-j} m_{j-1}        y = s_0 m_{N-1}

where each s is the short filter of rows that a kernel reads anyway. Backward goes the same way back, from dm_{N-1} =
dy s_0 to du_1, and makes again the m but the last, z.

Shapes: C channels, B batch, L length, N order, K taps. Channels come first.
"""

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gated import Inputs
from hyena_dist.ops.gpu import fft_conv
from hyena_dist.ops.records import Filters
from hyena_dist.ops.triton import long_conv
from hyena_dist.ops.triton.long_conv import precision_for
from hyena_dist.ops.triton.product import RowGradients, add_sums, empty_sums, product_backward
from hyena_dist.ops.triton.rows import Product, Rows
from hyena_dist.ops.tuning import Candidates, choose

CONVOLUTIONS: dict[str, ModuleType] = {"torch.fft": fft_conv, "tensor cores": long_conv}
"""The implementations of the long convolution: modules with equal functions."""


class Kept(NamedTuple):
    """The tensors that a forward pass leaves for its backward pass."""

    z: Tensor
    """What the last gate meets, [C, B, L]."""


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels compute in the inputs' type: all but float64."""
    return inputs.projected.dtype != torch.float64


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    """Return the operator's value [C, B, L], and what backward needs."""
    y, kept = empty(inputs, keep)
    write_value(inputs.projected, inputs.filters, y, kept.z if kept else None)
    return y, kept


def empty(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    """Return what `forward` does, without values."""
    projected, filters = inputs
    y = projected.new_empty(filters.kernels.shape[1], *projected.shape[1:])
    return y, Kept(torch.empty_like(y)) if keep else None


def kept(tensors: Sequence[Tensor]) -> Kept:
    """Return the record of what `forward` kept."""
    return Kept(*tensors)


def backward(dy: Tensor, inputs: Inputs, kept: Kept) -> Inputs:
    """Return the gradients of all inputs."""
    projected, filters = inputs
    d_projected, d_kernels = torch.empty_like(projected), torch.empty_like(filters.kernels)
    sums = write_gradients(dy, projected, filters, kept.z, d_projected, d_kernels)
    return Inputs(d_projected, Filters(sums.taps, sums.bias, d_kernels))


def write_value(
    projected: Tensor, filters: Filters, y: Tensor, z: Tensor | None, conv: ModuleType | None = None
) -> None:
    """Write the operator's value into y [C, B, L] and, if given, what its last gate meets into z [C, B, L].

    Args:
        projected: [(N + 1) C, B, L], the rows of x0, ..., x_{N-1}, v; batch and positions may have any strides.
        filters: the short and long filters of the C channels.
        y: memory of any floating type but float64.
        z: memory of any floating type but float64.
        conv: one of CONVOLUTIONS; the fastest, if not given.
    """
    conv = conv or _fastest(projected, filters)
    first, *gates = _operands(projected, filters)
    inputs, spectra, _ = _convolved(projected, filters, gates, conv)
    conv.convolve(inputs[-1], spectra[-1], y, gate=first, z=z, precision=precision_for(projected.dtype))


def write_gradients(
    dy: Tensor,
    projected: Tensor,
    filters: Filters,
    z: Tensor,
    d_projected: Tensor,
    d_kernels: Tensor,
    y: Tensor | None = None,
    conv: ModuleType | None = None,
) -> RowGradients:
    """Write the operator's gradients and, if `y` is given, once more its value.

    Args:
        dy: gradient of the value, [C, B, L].
        projected: the rows that `write_value` was given.
        filters: the filters that it was given.
        z: what it wrote there.
        d_projected: memory for the gradient of the rows, [(N + 1) C, B, L].
        d_kernels: memory for the gradient of the long filters, [N - 1, C, L] in float32.
        y: memory for the value, [C, B, L].
        conv: one of CONVOLUTIONS; the fastest, if not given.

    Returns:
        The gradients that are sums over batch and positions, in the type of the taps.
    """
    conv = conv or _fastest(projected, filters)
    channels = filters.kernels.shape[1]
    precision = precision_for(projected.dtype)
    first, *gates = _operands(projected, filters)
    gradients = d_projected.split(channels)
    sums = empty_sums(dy, len(projected), filters.taps.shape[1])
    sums_of = sums.split(channels, dim=1)
    inputs, spectra, met = _convolved(projected, filters, gates, conv)
    product_backward(dy, first, Rows(z), gradients[0], None, sums_of[0], y=y)
    d: Product = (Rows(dy), first)
    du = torch.empty(dy.shape, dtype=dy.dtype, device=dy.device)
    for j in reversed(range(len(spectra))):
        conv.convolve_backward(d, inputs[j], spectra[j], du, d_kernels[j], precision=precision)
        # The gate x_{N-1-j} met the value of the convolution before; that of the first one met v.
        i = len(spectra) - j
        if j:
            dm = torch.empty_like(du)
            product_backward(du, gates[i - 1], Rows(met[j - 1]), gradients[i], dm, sums_of[i])
            d = (Rows(dm), None)
        else:
            product_backward(du, gates[i - 1], gates[i], gradients[i], gradients[i + 1], sums_of[i], sums_of[i + 1])
    return add_sums(sums, filters.taps.dtype)


def fastest(rows: Tensor, count: int, candidates: Candidates) -> ModuleType:
    """Return the one of CONVOLUTIONS that is to be taken for `count` sequences like those of rows [..., L].

    On a GPU it is the fastest; elsewhere (on meta tensors, in the interpreter) the one on tensor cores.
    """
    if rows.device.type != "cuda":
        return long_conv
    return CONVOLUTIONS[choose("long convolution", rows.device, rows.dtype, rows.shape[-1], count, candidates)]


def _fastest(projected: Tensor, filters: Filters) -> ModuleType:
    """Return the convolution that is fastest for such operands, forward and backward."""

    def run(conv: ModuleType) -> None:
        y, z = (projected.new_empty(filters.kernels.shape[1], *projected.shape[1:]) for _ in range(2))
        write_value(projected, filters, y, z, conv)
        write_gradients(
            y, projected, filters, z, torch.empty_like(projected), torch.empty_like(filters.kernels), conv=conv
        )

    candidates = {name: functools.partial(run, conv) for name, conv in CONVOLUTIONS.items()}
    return fastest(projected, projected.shape[1] * filters.kernels.shape[1], candidates)


def _operands(projected: Tensor, filters: Filters) -> list[Rows]:
    """Return x0, ..., x_{N-1}, v as the gates meet them."""
    channels = filters.kernels.shape[1]
    parts = (projected, filters.taps, filters.bias)
    return [Rows(*of_one) for of_one in zip(*(part.split(channels) for part in parts), strict=True)]


def _convolved(
    projected: Tensor, filters: Filters, gates: Sequence[Rows], conv: ModuleType
) -> tuple[list[Product], list[Tensor], list[Tensor]]:
    """Return the input and the spectrum of each convolution, and the values of all but the last.

    Args:
        projected: the rows, for their type and shape.
        filters: the filters.
        gates: x1, ..., x_{N-1}, v.
        conv: one of CONVOLUTIONS.
    """
    precision = precision_for(projected.dtype)
    convolutions, channels, _ = filters.kernels.shape
    spectra = [*conv.spectrum(filters.kernels.flatten(0, 1), precision).split(channels)]
    inputs: list[Product] = [(gates[-2], gates[-1])]
    met: list[Tensor] = []
    for j in range(1, convolutions):
        met.append(projected.new_empty(channels, *projected.shape[1:]))
        conv.convolve(inputs[-1], spectra[j - 1], met[-1], precision=precision)
        inputs.append((gates[-2 - j], Rows(met[-1])))
    return inputs, spectra, met
