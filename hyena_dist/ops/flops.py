"""Floating-point operations of the registered operators, for torch.utils.flop_counter.FlopCounterMode.

Matrix products count 2 M N K, as torch counts them; a real FFT of n points 2.5 n log2(n). What is pointwise is left
out. Backward includes what it makes again.
"""

import math
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from hyena_dist.op_sizes import fast_fft_size
from hyena_dist.ops.conv import gated  # noqa: F401 (they register the operators)
from hyena_dist.ops.fused import head, mixer, mlp  # noqa: F401

Shape = torch.Size


def _transform(length: int) -> float:
    points = fast_fft_size(2 * length - 1)
    return 2.5 * points * math.log2(max(2, points))


def _convolutions(batch: int, kernels: Shape) -> int:
    """Of each convolution, the spectra of B sequences and of the kernel, and B sequences back."""
    convolutions, channels, length = kernels
    return int(convolutions * channels * (2 * batch + 1) * _transform(length))


def _convolutions_backward(batch: int, kernels: Shape, kept: bool = False) -> int:
    """Spectra of input and kernel unless kept, that of the gradient, gradients back; all values but the last again."""
    convolutions, channels, length = kernels
    each = 4 * batch + 2 - (batch + 1 if kept else 0)
    return int(channels * (convolutions * each - batch) * _transform(length))


@register_flop_formula(torch.ops.hyena_dist.operator)
def operator_flops(projected: Shape, taps: Shape, bias: Shape, kernels: Shape, *_: Any, **__: Any) -> int:
    """The convolutions."""
    return _convolutions(projected[1], kernels)


@register_flop_formula(torch.ops.hyena_dist.operator_backward)
def operator_backward_flops(
    dy: Shape, projected: Shape, taps: Shape, bias: Shape, kernels: Shape, *_: Any, **__: Any
) -> int:
    """The convolutions' gradients."""
    return _convolutions_backward(projected[1], kernels)


@register_flop_formula(torch.ops.hyena_dist.mixer)
def mixer_flops(
    x: Shape, nw: Shape, nb: Shape, in_weight: Shape, in_bias: Shape, out_weight: Shape, *rest: Any, **_: Any
) -> int:
    """Both projections and the operator."""
    rows = x[0] * x[1]
    projections = 2 * rows * (math.prod(in_weight) + math.prod(out_weight))
    return projections + _convolutions(x[1], rest[3])


@register_flop_formula(torch.ops.hyena_dist.mixer_backward)
def mixer_backward_flops(
    dy: Shape,
    x: Shape,
    nw: Shape,
    nb: Shape,
    in_weight: Shape,
    in_bias: Shape,
    out_weight: Shape,
    *rest: Any,
    **_: Any,
) -> int:
    """Each projection's two gradients, and the first projection again unless it was kept."""
    rows, kept = x[0] * x[1], len(rest[4]) > 1
    projections = 2 * rows * ((2 if kept else 3) * math.prod(in_weight) + 2 * math.prod(out_weight))
    return projections + _convolutions_backward(x[1], rest[3], kept)


@register_flop_formula(torch.ops.hyena_dist.mlp)
def mlp_flops(x: Shape, nw: Shape, nb: Shape, fc1_weight: Shape, *_: Any, **__: Any) -> int:
    """Two products."""
    return 2 * 2 * math.prod(x[:-1]) * math.prod(fc1_weight)


@register_flop_formula(torch.ops.hyena_dist.mlp_backward)
def mlp_backward_flops(dy: Shape, x: Shape, nw: Shape, nb: Shape, fc1_weight: Shape, *rest: Any, **_: Any) -> int:
    """Two gradients of each product, and the first product again unless its activation was kept."""
    return (4 if rest[3] else 5) * 2 * math.prod(x[:-1]) * math.prod(fc1_weight)


@register_flop_formula(torch.ops.hyena_dist.head_nll)
def head_flops(x: Shape, nw: Shape, nb: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """One product."""
    return 2 * math.prod(x[:-1]) * math.prod(weight)


@register_flop_formula(torch.ops.hyena_dist.head_nll_backward)
def head_backward_flops(dy: Shape, x: Shape, nw: Shape, nb: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Its two gradients, over the columns of tokens alone, and itself again; counted with all columns."""
    return 3 * 2 * math.prod(x[:-1]) * math.prod(weight)
