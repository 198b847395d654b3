"""Short filters and what they gate, channels first as inside the Hyena operator.

Shapes: c channels, B batch, L length, K taps; `weight` [c, K], `bias` [c].

Source: Hyena (arXiv 2302.10866), section 3.
"""

from torch import Tensor

from hyena_dist.ops.reference.short_conv import short_conv


def short_filter(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x [c, B, L] through the short filter of each channel, [c, B, L]."""
    return short_conv(x.transpose(0, 1), weight, bias).transpose(0, 1)


def gate(x: Tensor, weight: Tensor, bias: Tensor, m: Tensor) -> Tensor:
    """Return short_filter(x) * m, for x and m [c, B, L]."""
    return short_filter(x, weight, bias) * m


def gate_pair(x: Tensor, weight: Tensor, bias: Tensor, x2: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Return short_filter(x) * short_filter(x2), for x and x2 [c, B, L]."""
    return short_filter(x, weight, bias) * short_filter(x2, weight2, bias2)
