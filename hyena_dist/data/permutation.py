"""Random numbers and random permutations as pure functions of a key, computed for any element without the others.

A shuffled epoch over any number of units therefore costs no memory, and its k-th unit is found at once.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
"""Whole numbers that are not negative, such as the numbers of samples."""
Keys = NDArray[np.uint64]
"""Numbers of 64 bits that look random; all arithmetic on them is modulo 2^64."""

_ROUNDS = 6
"""Rounds of the Feistel network."""
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd: its multiples are spread evenly


def key_of(*numbers: int) -> np.uint64:
    """Return one key for a tuple of numbers, such as (seed, stage, purpose).

    The key depends on nothing else: every machine and every version of numpy computes the same.
    """
    return np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]


def mix(numbers: Numbers | Keys, keys: np.uint64 | Keys) -> Keys:
    """Hash numbers with keys to 64 bits that look random.

    Args:
        numbers: int64 or uint64 [n], none negative.
        keys: one key for all numbers, or uint64 [n].

    Returns:
        Hashes, uint64 [n], by the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
    """
    x = numbers.astype(np.uint64) * _STEP + keys
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def permute(elements: Numbers, sizes: Numbers, keys: Keys) -> Numbers:
    """Send each element to its image under the permutation of 0 to size - 1 that its key selects.

    The permutation is a Feistel network. An element is written as a pair (left, right) with left < a and right < b,
    where a and b are about the square root of the size and a * b is at least the size. Each round adds a keyed hash of
    one half to the other half, modulo the other's range; that can be undone, so the network is one-to-one. An image
    that is not below the size, which is rare, is sent through the network again until it is (cycle walking); the map
    stays one-to-one.

    Args:
        elements: numbers to permute, int64 [n], each from 0 to size - 1.
        sizes: how many numbers each element's permutation has, int64 [n], at least 1.
        keys: which permutation is applied to each element, uint64 [n].

    Returns:
        Images, int64 [n]. For one size and one key, the images of all elements are all elements, each once.
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
    """Permute the numbers below a * b by one pass of the Feistel network; all arguments are uint64 [n]."""
    left, right = np.divmod(x, b)
    for number in range(_ROUNDS):
        keys = keys ^ (_STEP + np.uint64(number))
        changed = _add(left, mix(right, keys), a)
        # The halves change places, and their ranges with them.
        left, right = right, changed
        a, b = b, a
    return left * b + right


def _add(x: Keys, hashes: Keys, ranges: Keys) -> Keys:
    """Return (x + h) modulo `ranges`, where h is the hash scaled into the range; all arguments are uint64 [n].

    Scaling the hash's upper 32 bits by a multiplication is cheaper than a division; ranges are therefore below 2^32.
    """
    half = np.uint64(32)
    x = x + (((hashes >> half) * ranges) >> half)
    return np.where(x >= ranges, x - ranges, x)
