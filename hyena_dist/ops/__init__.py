"""Pure functions on tensors. Imports torch alone, so that they can be benchmarked anywhere."""

from hyena_dist.ops.hyena import hyena_operator
from hyena_dist.ops.long_conv import convolve, convolve_backward, fast_fft_size, long_conv
from hyena_dist.ops.short_conv import short_conv

__all__ = ["convolve", "convolve_backward", "fast_fft_size", "hyena_operator", "long_conv", "short_conv"]
