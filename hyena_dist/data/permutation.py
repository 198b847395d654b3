"""Keyed numbers and a keyed permutation, computed element by element and never stored.

An epoch over any number of units therefore costs no memory, and its k-th element is found at once.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]

_ROUNDS = 6
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd: its multiples are spread evenly


def key_of(*numbers: int) -> np.uint64:
    """One key for some numbers, such as (seed, stage, purpose): the same on every machine and numpy version."""
    return np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]


def mix(numbers: Numbers | Keys, keys: np.uint64 | Keys) -> Keys:
    """64 bits that look random, for each of an array of numbers, none negative, and its key."""
    x = numbers.astype(np.uint64) * _STEP + keys  # modulo 2^64, as everything here
    # The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def permute(elements: Numbers, sizes: Numbers, keys: Keys) -> Numbers:
    """Where each element goes under the permutation of 0 to size - 1 that its key selects.

    A Feistel network on pairs (left, right) with left < a and right < b, where a and b are about the root of the size
    and a * b is not below it: each round adds to one half, modulo its range, a keyed hash of the other half, which can
    be undone. An image of at least `size`, which few are, is sent through again until it is below (cycle walking);
    that keeps the map one-to-one.

    Args:
        elements: int64 [n], from 0 to size - 1 each.
        sizes: int64 [n], at least 1.
        keys: uint64 [n].

    Returns:
        int64 [n]. For one size and key, all elements give all elements, each once.
    """
    a = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    b = (sizes.astype(np.uint64) + a - np.uint64(1)) // a
    images = _network(elements.astype(np.uint64), a, b, keys)
    limits = sizes.astype(np.uint64)
    beyond = np.flatnonzero(images >= limits)
    while beyond.size:
        images[beyond] = _network(images[beyond], a[beyond], b[beyond], keys[beyond])
        beyond = beyond[images[beyond] >= limits[beyond]]
    return images.astype(np.int64)


def _network(x: Keys, a: Keys, b: Keys, keys: Keys) -> Keys:
    """One pass over values below a * b, all uint64 [n]."""
    left, right = np.divmod(x, b)
    for number in range(_ROUNDS):
        keys = keys ^ (_STEP + np.uint64(number))
        left, right, a, b = right, _add(left, mix(right, keys), a), b, a
    return left * b + right


def _add(x: Keys, hashes: Keys, ranges: Keys) -> Keys:
    """(x + hash) modulo a range below 2^32, into which the hash's upper half is scaled: cheaper than a division."""
    half = np.uint64(32)
    x = x + (((hashes >> half) * ranges) >> half)
    return np.where(x >= ranges, x - ranges, x)
