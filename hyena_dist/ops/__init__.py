"""Pure functions on tensors. Imports torch alone, so that they can be benchmarked anywhere."""

from hyena_dist.op_sizes import fast_fft_size
from hyena_dist.ops import flops  # registers formulas
from hyena_dist.ops.conv.gated import Filters, hyena_operator
from hyena_dist.ops.conv.long import convolve, convolve_backward, long_conv
from hyena_dist.ops.conv.short import short_conv
from hyena_dist.ops.fused.filter import DecayWindow, SineNetwork, implicit_filter
from hyena_dist.ops.fused.head import head_nll
from hyena_dist.ops.fused.mixer import Projections, hyena_mixer
from hyena_dist.ops.fused.mlp import MLPWeights, gelu_mlp
from hyena_dist.ops.fused.norm import NormInput

__all__ = [
    "DecayWindow",
    "Filters",
    "MLPWeights",
    "NormInput",
    "Projections",
    "SineNetwork",
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
