"""Pure functions on tensors, which import torch alone, so that they can be benchmarked anywhere; README.md explains."""

from hyena_dist.ops import flops, reference  # flops registers formulas
from hyena_dist.ops.conv.gated import hyena_operator
from hyena_dist.ops.conv.long import convolve, convolve_backward, long_conv
from hyena_dist.ops.conv.short import short_conv
from hyena_dist.ops.fused.filter import implicit_filter
from hyena_dist.ops.fused.head import head_nll
from hyena_dist.ops.fused.mixer import hyena_mixer
from hyena_dist.ops.fused.mlp import gelu_mlp
from hyena_dist.ops.records import DecayWindow, Features, Filters, MLPWeights, NormInput, Projections, SineNetwork
from hyena_dist.system.op_sizes import fast_fft_size

__all__ = [
    "DecayWindow",
    "Features",
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
    "reference",
    "short_conv",
]
