"""The formulas that the operators compute, in plain torch: what the tests compare with, and what to read first.

Nothing is fused, cut into parts or kept small: autograd differentiates them, and they take any floating type. They have
the names and the arguments of the operators.
"""

from hyena_dist.ops.reference.filter import filter_values, implicit_filter, sine_network
from hyena_dist.ops.reference.gates import gate, gate_pair, short_filter
from hyena_dist.ops.reference.head import head_nll
from hyena_dist.ops.reference.hyena import hyena_mixer, hyena_operator
from hyena_dist.ops.reference.long_conv import long_conv
from hyena_dist.ops.reference.mlp import gelu_mlp
from hyena_dist.ops.reference.norm import layer_norm
from hyena_dist.ops.reference.short_conv import short_conv

__all__ = [
    "filter_values",
    "gate",
    "gate_pair",
    "gelu_mlp",
    "head_nll",
    "hyena_mixer",
    "hyena_operator",
    "implicit_filter",
    "layer_norm",
    "long_conv",
    "short_conv",
    "short_filter",
    "sine_network",
]
