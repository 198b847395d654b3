"""The pointwise half of the Hyena operator: short causal filters, and the products they take part in.

What is computed. With K taps w, of which the last meets the present position,

    s = short(x):  s_t = b + sum over j < K of w_j x_{t - (K - 1) + j},  where x is 0 before the sequence
    gate: y = s m        gate_pair: y = short(x) short'(x')

Backward, from ds (of a gate: ds = dy m and dm = dy s):

    dx_t = sum over j of w_j ds_{t + (K - 1) - j},  where ds is 0 after the sequence
    dw_j = sum over batch and t of ds_t x_{t - (K - 1) + j}        db = sum of ds

Every function reads its operands in their own type, computes in float32 (float64 for float64) and touches memory once
or twice: called for a few channels at a time, all of it stays in a CPU's caches. On GPUs, `ops.triton.product` has the
same in one launch each.

Plain reference: `hyena_dist.ops.reference.gates`.

Shapes: c channels, B batch, L length, K taps; `weight` [c, K] has the taps, `bias` is [c].
"""

import torch
from torch import Tensor


def real(x: Tensor) -> Tensor:
    """Return x as FFTs take it: float32 whatever comes in (bf16 has none, fp16 overflows), float64 for float64."""
    return x.to(real_dtype(x))


def real_dtype(x: Tensor) -> torch.dtype:
    """Return the type of real(x)."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def short_filter(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return y[c, b, t] = bias[c] + sum over j of weight[c, j] * x[c, b, t - (K - 1) + j], [c, B, L] as x is."""
    x, w = real(x), real(weight)
    y = (x * w[:, -1, None, None]).add_(real(bias)[:, None, None])  # twice as fast as one addcmul that broadcasts
    for shift in range(1, min(w.shape[1], x.shape[-1])):
        y[..., shift:].addcmul_(x[..., :-shift], w[:, -1 - shift, None, None])
    return y


def gate(x: Tensor, weight: Tensor, bias: Tensor, m: Tensor, out: Tensor | None = None) -> Tensor:
    """Return short_filter(x) * m, with m [c, B, L] in float32; `out`, if given, takes it in its own type."""
    y = short_filter(x, weight, bias)
    return y.mul_(m) if out is None else torch.mul(y, m, out=out)


def gate_pair(x: Tensor, weight: Tensor, bias: Tensor, x2: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Return short_filter(x) * short_filter(x2), which enters the first long convolution, in float32."""
    return short_filter(x, weight, bias).mul_(short_filter(x2, weight2, bias2))


def short_filter_backward(dy: Tensor, x: Tensor, weight: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient of x into dx (in its type) and return (d_weight [c, K], d_bias [c]); dy is float32."""
    x, w = real(x), real(weight)
    d_weight = torch.zeros_like(w)
    d_weight[:, -1] = (dy * x).sum((1, 2))
    d = torch.mul(dy, w[:, -1, None, None], out=dx if dx.dtype == dy.dtype else None)
    for shift in range(1, min(w.shape[1], x.shape[-1])):
        d[..., :-shift].addcmul_(dy[..., shift:], w[:, -1 - shift, None, None])
        d_weight[:, -1 - shift] = (dy[..., shift:] * x[..., :-shift]).sum((1, 2))
    if d is not dx:
        dx.copy_(d)
    return d_weight, dy.sum((1, 2))


def gate_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, m: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradient of x into dx and return (d_m float32, d_weight, d_bias), where y = short_filter(x) * m."""
    dy, x = real(dy), real(x)
    d_weight, d_bias = short_filter_backward(dy * m, x, weight, dx)
    return short_filter(x, weight, bias).mul_(dy), d_weight, d_bias
