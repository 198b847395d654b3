"""Hashes of sequences, by which the same one is known again, also where it was written from the other strand."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens, reverse_complement
from hyena_dist.tasks.labelled import Examples


def strand_hash(tokens: Tokens) -> int:
    """Return a number below 2^64 that a sequence, uint8 [L], shares with its reverse complement alone."""
    return min(_hash(tokens), _hash(reverse_complement(tokens)))


def hashes(examples: Examples) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return for N sequences the hash of what is written, and `strand_hash`; uint64 [N] each."""
    read = [examples.read(i) for i in range(len(examples))]
    written = np.array([_hash(tokens) for tokens in read], np.uint64)
    turned = np.array([_hash(reverse_complement(tokens)) for tokens in read], np.uint64)
    return written, np.minimum(written, turned)


def _hash(tokens: Tokens) -> int:
    return int.from_bytes(hashlib.blake2b(tokens.tobytes(), digest_size=8).digest(), "little")
