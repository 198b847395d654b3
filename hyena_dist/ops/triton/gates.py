# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""The functions of `ops.conv.gates` as GPU kernels, one launch each: each operand is read or written once in memory.

Shapes: c channels, B batch, L length, K taps; [c, B, L] operands may have any strides. Results do not
depend on the order in which programs run: sums are written per program and added up afterwards, without atomics.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyena_dist.ops.triton.launch import launch

BLOCK = 2048
"""Positions of one program, a power of two: with 8 warps, each thread holds 16 bytes of a bf16 operand."""

WARPS = 8


@triton.jit
def _place(batch, length, BLOCK: tl.constexpr):
    """Return channel and batch index of this program, in int64 as they multiply strides, and its positions.

    One axis numbers all programs: the other two axes of a grid end at 65535.
    """
    blocks = tl.cdiv(length, BLOCK)
    program = tl.program_id(0)
    row = program // blocks
    t = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    return (row // batch).to(tl.int64), (row % batch).to(tl.int64), t


@triton.jit
def _load(row, stride, t, length, WORK: tl.constexpr):
    """Return the values of a row at positions t, zero where it has none."""
    return tl.load(row + t.to(tl.int64) * stride, mask=(t >= 0) & (t < length), other=0.0).to(WORK)


@triton.jit
def _store(row, stride, t, length, value):
    tl.store(row + t.to(tl.int64) * stride, value, mask=t < length)


@triton.jit
def _filtered(row, stride, weight, bias, channel, t, length, K: tl.constexpr, WORK: tl.constexpr):
    """Return a row's short-filtered values at positions t. The K loads overlap: all but one come from the cache."""
    y = tl.load(bias + channel).to(WORK)
    for shift in tl.static_range(K):
        y += tl.load(weight + channel * K + (K - 1 - shift)).to(WORK) * _load(row, stride, t - shift, length, WORK)
    return y


@triton.jit
def _short_filter(
    x, x_c, x_b, x_t, y, y_c, y_b, y_t, weight, bias, batch, length,
    K: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, b, t = _place(batch, length, BLOCK)
    value = _filtered(x + c * x_c + b * x_b, x_t, weight, bias, c, t, length, K, WORK)
    _store(y + c * y_c + b * y_b, y_t, t, length, value)


@triton.jit
def _gate(
    x, x_c, x_b, x_t, m, m_c, m_b, m_t, y, y_c, y_b, y_t, weight, bias, batch, length,
    K: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, b, t = _place(batch, length, BLOCK)
    value = _filtered(x + c * x_c + b * x_b, x_t, weight, bias, c, t, length, K, WORK)
    value *= _load(m + c * m_c + b * m_b, m_t, t, length, WORK)
    _store(y + c * y_c + b * y_b, y_t, t, length, value)


@triton.jit
def _gate_pair(
    x, x_c, x_b, x_t, x2, x2_c, x2_b, x2_t, y, y_c, y_b, y_t, weight, bias, weight2, bias2, batch, length,
    K: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, b, t = _place(batch, length, BLOCK)
    value = _filtered(x + c * x_c + b * x_b, x_t, weight, bias, c, t, length, K, WORK)
    value *= _filtered(x2 + c * x2_c + b * x2_b, x2_t, weight2, bias2, c, t, length, K, WORK)
    _store(y + c * y_c + b * y_b, y_t, t, length, value)


@triton.jit
def _short_filter_backward(
    x, x_c, x_b, x_t, dy, dy_c, dy_b, dy_t, dx, dx_c, dx_b, dx_t, weight, sums, batch, length,
    K: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, b, t = _place(batch, length, BLOCK)
    dy += c * dy_c + b * dy_b
    sums += tl.program_id(0).to(tl.int64) * (K + 1)
    x_here = _load(x + c * x_c + b * x_b, x_t, t, length, WORK)
    dx_here = tl.zeros([BLOCK], WORK)
    for shift in tl.static_range(K):
        d = _load(dy, dy_t, t + shift, length, WORK)
        dx_here += tl.load(weight + c * K + (K - 1 - shift)).to(WORK) * d
        tl.store(sums + (K - 1 - shift), tl.sum(x_here * d, axis=0))
        if shift == 0:
            tl.store(sums + K, tl.sum(d, axis=0))
    _store(dx + c * dx_c + b * dx_b, dx_t, t, length, dx_here)


@triton.jit
def _gate_backward(
    x, x_c, x_b, x_t, m, m_c, m_b, m_t, dy, dy_c, dy_b, dy_t, dx, dx_c, dx_b, dx_t, d_m, d_m_c, d_m_b, d_m_t,
    weight, bias, sums, batch, length,
    K: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c, b, t = _place(batch, length, BLOCK)
    dy += c * dy_c + b * dy_b
    x += c * x_c + b * x_b
    m += c * m_c + b * m_b
    sums += tl.program_id(0).to(tl.int64) * (K + 1)
    x_here = _load(x, x_t, t, length, WORK)
    dx_here = tl.zeros([BLOCK], WORK)
    for shift in tl.static_range(K):
        dy_there = _load(dy, dy_t, t + shift, length, WORK)
        d = dy_there * _load(m, m_t, t + shift, length, WORK)
        dx_here += tl.load(weight + c * K + (K - 1 - shift)).to(WORK) * d
        tl.store(sums + (K - 1 - shift), tl.sum(x_here * d, axis=0))
        if shift == 0:
            tl.store(sums + K, tl.sum(d, axis=0))
            d_m_here = dy_there * _filtered(x, x_t, weight, bias, c, t, length, K, WORK)
            _store(d_m + c * d_m_c + b * d_m_b, d_m_t, t, length, d_m_here)
    _store(dx + c * dx_c + b * dx_b, dx_t, t, length, dx_here)


def short_filter(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `gates.short_filter`, from x [c, B, L] in any floating type, in float32 (float64 for float64)."""
    y = _empty(x)
    _launch(_short_filter, (x,), (y,), (weight, bias))
    return y


def gate(x: Tensor, weight: Tensor, bias: Tensor, m: Tensor, out: Tensor | None = None) -> Tensor:
    """Compute `gates.gate`, [c, B, L], in new memory or in `out` of any type, which may be m but not overlap x."""
    y = _empty(x) if out is None else out
    _launch(_gate, (x, m), (y,), (weight, bias))
    return y


def gate_pair(x: Tensor, weight: Tensor, bias: Tensor, x2: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Compute `gates.gate_pair`, from x and x2 [c, B, L], in float32 (float64 for float64)."""
    y = _empty(x)
    _launch(_gate_pair, (x, x2), (y,), (weight, bias, weight2, bias2))
    return y


def short_filter_backward(dy: Tensor, x: Tensor, weight: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `gates.short_filter_backward`, with a dx [c, B, L] that shares no memory with dy and x."""
    sums = _empty_sums(x, weight)
    _launch(_short_filter_backward, (x, dy), (dx,), (weight,), sums)
    total = sums.sum(1)
    return total[:, :-1], total[:, -1]


def gate_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, m: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `gates.gate_backward`, with a dx [c, B, L] that shares no memory with dy, x and m."""
    d_m = _empty(x)
    sums = _empty_sums(x, weight)
    _launch(_gate_backward, (x, m, dy), (dx, d_m), (weight, bias), sums)
    total = sums.sum(1)
    return d_m, total[:, :-1], total[:, -1]


def _launch(
    kernel: Any,
    reads: tuple[Tensor, ...],
    writes: tuple[Tensor, ...],
    parameters: tuple[Tensor, ...],
    *sums: Tensor,
) -> None:
    """Run a kernel on operands [c, B, L], the first of them x, and on the channels' parameters, first the weight."""
    x, weight = reads[0], parameters[0]
    channels, batch, length = x.shape
    strided = [argument for operand in (*reads, *writes) for argument in (operand, *operand.stride())]
    parameters = tuple(parameter.contiguous() for parameter in parameters)
    launch(
        kernel,
        (channels * _programs(x),),
        (*strided, *parameters, *sums, batch, length),
        reads=(*reads, *parameters),
        writes=(*writes, *sums),
        K=weight.shape[1],
        WORK=tl.float64 if x.dtype == torch.float64 else tl.float32,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def _programs(x: Tensor) -> int:
    """Return the number of programs that one channel takes."""
    _, batch, length = x.shape
    return batch * int(triton.cdiv(length, BLOCK))


def _empty(x: Tensor) -> Tensor:
    """Return memory for a contiguous result of x's shape."""
    return torch.empty(x.shape, dtype=_work_type(x), device=x.device)


def _empty_sums(x: Tensor, weight: Tensor) -> Tensor:
    """Return memory for each program's sums, [c, programs, K + 1]: those of the K taps, then that of the bias."""
    channels, taps = weight.shape
    return torch.empty((channels, _programs(x), taps + 1), dtype=_work_type(x), device=x.device)


def _work_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
