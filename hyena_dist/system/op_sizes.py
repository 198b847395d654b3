"""The sizes by which the operators of ops/ choose how they work, which plan/ must know without torch.

A CPU works on pieces that stay in its caches. A GPU's launches cost more than its caches give: it takes everything at
once, unless its memory is too small for that.
"""

from typing import NamedTuple


class Sizes(NamedTuple):
    """The parts of a long sequence that are worked on at a time; counted in numbers, not in bytes."""

    recomputed_from: int
    """Numbers of a residual stream from which backward makes again what forward could have kept."""
    norm: int
    """Numbers of the residual stream in a stretch of positions, for norms, dense layers and the head."""
    hidden: int
    """Numbers of the MLP's hidden layer in a stretch of positions."""
    filter_positions: int
    """Positions for which the filter network's hidden layers are in memory."""
    projections: int
    """Numbers of the projections of a group of channels."""
    padded: int
    """Numbers of one padded operand of the long convolution in a block of channels."""


CPU = Sizes(
    recomputed_from=2**21,
    norm=2**18,
    hidden=2**18,
    filter_positions=4096,
    projections=2**24,
    padded=2**20,
)
"""Pieces that stay in a CPU's caches: those of dense layers in a core's own, a few padded operands in the last of them.

Up to 16,384 tokens of 128 all is kept, which takes at most 68 bytes a number, 0.14 GB a layer, in fp32.
"""


def of_gpu(memory: int) -> Sizes:
    """Return the sizes for a GPU with so many bytes of memory.

    On 80 GB dense layers take a million tokens of 256 at once, and nothing is made again up to 600,000 tokens of 128.
    """
    piece = memory // 64
    return Sizes(
        recomputed_from=memory // 1024,
        norm=piece,
        hidden=piece,
        filter_positions=piece // 64,
        projections=piece,
        padded=piece // 4,
    )


def fast_fft_size(n: int) -> int:
    """The smallest m * 2**j >= n with m in (1, 3, 5, 9, 15): small primes keep every FFT library on its fast path."""
    candidates = []
    for m in (1, 3, 5, 9, 15):
        size = m
        while size < n:
            size *= 2
        candidates.append(size)
    return min(candidates)
