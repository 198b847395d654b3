"""Floating-point operations of the registered operators, for torch.utils.flop_counter.FlopCounterMode.

Matrix products count 2 M N K, as torch counts them; a real FFT of n points 2.5 n log2(n). What is pointwise is left
out. Backward includes what it makes again.

FlopCounterMode puts a shape in place of each tensor: so do the records that the formulas get.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from hyena_dist.ops.conv import gated
from hyena_dist.ops.fused import head, mixer, mlp
from hyena_dist.ops.record_op import RecordOp
from hyena_dist.system.op_sizes import fast_fft_size

Shape = torch.Size


def _forward_of(op: RecordOp[Any, Any]) -> Callable[[Callable[[Any], int]], None]:
    """Return a decorator that makes a function of the operator's inputs the formula of its forward pass."""

    def register(formula: Callable[[Any], int]) -> None:
        def count(*flat: Any, **_: Any) -> int:
            inputs, _keep = op.forward_arguments(flat)
            return formula(inputs)

        register_flop_formula(op.packet)(count)

    return register


def _backward_of(op: RecordOp[Any, Any]) -> Callable[[Callable[[Any, Any], int]], None]:
    """Return a decorator that makes a function of the operator's inputs and kept tensors its backward formula."""

    def register(formula: Callable[[Any, Any], int]) -> None:
        def count(*flat: Any, **_: Any) -> int:
            _dy, inputs, kept = op.backward_arguments(flat)
            return formula(inputs, kept)

        register_flop_formula(op.backward_packet)(count)

    return register


@_forward_of(gated.OPERATOR)
def _operator(inputs: Any) -> int:
    """Count the convolutions."""
    return _convolutions(inputs.projected[1], inputs.filters.kernels)


@_backward_of(gated.OPERATOR)
def _operator_backward(inputs: Any, kept: list[Any]) -> int:
    """Count the convolutions' gradients."""
    return _convolutions_backward(inputs.projected[1], inputs.filters.kernels)


@_forward_of(mixer.OPERATOR)
def _mixer(inputs: Any) -> int:
    """Count both projections and the operator."""
    positions, batch, _ = inputs.x
    weights = math.prod(inputs.projections.in_weight) + math.prod(inputs.projections.out_weight)
    return 2 * positions * batch * weights + _convolutions(batch, inputs.filters.kernels)


@_backward_of(mixer.OPERATOR)
def _mixer_backward(inputs: Any, kept: list[Any]) -> int:
    """Count each projection's two gradients, and the first projection again unless it was kept."""
    positions, batch, _ = inputs.x
    all_kept = len(kept) > 1
    of_first = (2 if all_kept else 3) * math.prod(inputs.projections.in_weight)
    of_last = 2 * math.prod(inputs.projections.out_weight)
    convolutions = _convolutions_backward(batch, inputs.filters.kernels, all_kept)
    return 2 * positions * batch * (of_first + of_last) + convolutions


@_forward_of(mlp.OPERATOR)
def _mlp(inputs: Any) -> int:
    """Count the products of both layers, whose weights have as many numbers."""
    return 2 * 2 * math.prod(inputs.x[:-1]) * math.prod(inputs.weights.fc1_weight)


@_backward_of(mlp.OPERATOR)
def _mlp_backward(inputs: Any, kept: list[Any]) -> int:
    """Count two gradients of each product, and the first product again unless its activation was kept."""
    return (4 if kept else 5) * 2 * math.prod(inputs.x[:-1]) * math.prod(inputs.weights.fc1_weight)


@_forward_of(head.OPERATOR)
def _head(inputs: Any) -> int:
    """Count the product of the positions with the head's weight."""
    return 2 * math.prod(inputs.x[:-1]) * math.prod(inputs.weight)


@_backward_of(head.OPERATOR)
def _head_backward(inputs: Any, kept: list[Any]) -> int:
    """Count the product again and its two gradients, with all columns, though the padded ones are left out."""
    return 3 * 2 * math.prod(inputs.x[:-1]) * math.prod(inputs.weight)


def _transform(length: int) -> float:
    points = fast_fft_size(2 * length - 1)
    return 2.5 * points * math.log2(max(2, points))


def _convolutions(batch: int, kernels: Shape) -> int:
    """Count, for each convolution, the transforms of B sequences and of the kernel, and the B inverse ones."""
    convolutions, channels, length = kernels
    return int(convolutions * channels * (2 * batch + 1) * _transform(length))


def _convolutions_backward(batch: int, kernels: Shape, kept: bool = False) -> int:
    """Count the transforms of the value's gradient, and the inverse ones of the gradients of input and kernel.

    All values but the last are made again, and the spectra of input and kernel too unless they were kept.
    """
    convolutions, channels, length = kernels
    each = 4 * batch + 2 - (batch + 1 if kept else 0)
    return int(channels * (convolutions * each - batch) * _transform(length))
