"""Sizes by which the operators of ops/ choose how they work, and which plan/ must know without torch."""

RECOMPUTED_FROM = 2**20
"""Numbers of a residual stream from which backward makes again what forward could have kept. Below, all of it takes a
few tens of MB, which costs less than making it again."""


def fast_fft_size(n: int) -> int:
    """The smallest m * 2**j >= n with m in (1, 3, 5, 9, 15): small primes keep every FFT library on its fast path."""
    candidates = []
    for m in (1, 3, 5, 9, 15):
        size = m
        while size < n:
            size *= 2
        candidates.append(size)
    return min(candidates)
