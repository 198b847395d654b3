"""Hashes of sequences, by which the same one is known again, also where it was written from the other strand."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens, reverse_complement
from hyena_dist.tasks.labelled import Examples


def strand_hash(tokens: Tokens) -> int:
    """Return a number below 2^64 that a sequence, uint8 [L], shares with its reverse complement alone."""
    return _hash(min(tokens.tobytes(), reverse_complement(tokens).tobytes()))


def hashes(examples: Examples) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return for N sequences a hash of what is written, and `strand_hash`; uint64 [N] each."""
    both = [(_hash(tokens.tobytes()), strand_hash(tokens)) for tokens in map(examples.read, range(len(examples)))]
    written, either = np.array(both, np.uint64).reshape(-1, 2).T
    return written, either


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
