"""Pure functions on tensors. Imports torch alone, so that they can be benchmarked anywhere."""

from hyena_dist.ops import flops  # registers formulas
from hyena_dist.ops.fft import fast_fft_size
from hyena_dist.ops.head import head_nll
from hyena_dist.ops.hyena import Filters, hyena_operator
from hyena_dist.ops.long_conv import convolve, convolve_backward, long_conv
from hyena_dist.ops.mixer import Projections, hyena_mixer
from hyena_dist.ops.mlp import MLPWeights, gelu_mlp
from hyena_dist.ops.norm import LayerNorm
from hyena_dist.ops.short_conv import short_conv
from hyena_dist.ops.sine_filter import SineNetwork, Window, implicit_filter

__all__ = [
    "Filters",
    "LayerNorm",
    "MLPWeights",
    "Projections",
    "SineNetwork",
    "Window",
    "convolve",
    "convolve_backward",
    "fast_fft_size",
    "flops",
    "gelu_mlp",
    "head_nll",
    "hyena_mixer",
    "hyena_operator",
    "implicit_filter",
    "long_conv",
    "short_conv",
]
