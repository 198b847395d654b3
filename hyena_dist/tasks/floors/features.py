"""Features of a sequence that simple methods see: the frequencies of its k-mers, or the bases in its middle.

Shapes: N examples, F features.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import A, Tokens, reverse_complement
from hyena_dist.tasks.labelled import Examples

_BLOCK = 2**22
"""Bases that are read at once."""


def kmer_frequencies(examples: Examples, k: int = 5, both_strands: bool = False) -> NDArray[np.float32]:
    """Return the share of each k-mer of A, C, G, T among those of each sequence, in order of the alphabet; [N, 4^k].

    Args:
        examples: the sequences; a sequence that has no k-mer without an N has zeros.
        k: bases of a k-mer.
        both_strands: whether the k-mers of the reverse complement count as well.
    """
    found = np.zeros((len(examples), 4**k), dtype=np.float32)
    for start, end in _blocks(examples):
        sequences = [examples.read(i) for i in range(start, end)]
        if both_strands:
            found[start:end] = _counts([reverse_complement(each) for each in sequences], k)
        found[start:end] += _counts(sequences, k)
    return found / np.maximum(found.sum(1, keepdims=True), 1)


def kmers_of(tokens: Tokens, k: int) -> NDArray[np.int64]:
    """Return the number of the k-mer that begins at each base, -1 where it has an N; [L] -> [L - k + 1]."""
    windows = max(0, len(tokens) - k + 1)
    code, known = np.zeros(windows, dtype=np.int64), np.ones(windows, dtype=bool)
    for i in range(k):
        base = tokens[i : i + windows].astype(np.int64) - A
        code = 4 * code + base
        known &= (base >= 0) & (base < 4)
    return np.where(known, code, -1)


def middle_bases(examples: Examples, width: int = 80) -> NDArray[np.float32]:
    """Return which of A, C, G, T each of the `width` bases in the middle is, zeros beyond the ends; [N, 4 width]."""
    found = np.zeros((len(examples), width, 4), dtype=np.float32)
    for i in range(len(examples)):
        tokens = middle(examples.read(i), width)
        first = (width - len(tokens)) // 2
        found[i, first : first + len(tokens)] = tokens[:, None] == A + np.arange(4)
    return found.reshape(len(examples), -1)


def middle(tokens: Tokens, width: int) -> Tokens:
    """Return the `width` bases in the middle of a sequence, all of one that is shorter."""
    start = max(0, (len(tokens) - width) // 2)
    return tokens[start : start + width]


def _counts(sequences: list[Tokens], k: int) -> NDArray[np.int64]:
    """Return how often each sequence has each k-mer, [N, 4^k]."""
    lengths = np.array([len(each) for each in sequences])
    codes = kmers_of(np.concatenate(sequences), k)
    owner = np.repeat(np.arange(len(sequences)), lengths)[: len(codes)]
    left = np.repeat(np.cumsum(lengths), lengths)[: len(codes)] - np.arange(len(codes))  # bases to the sequence's end
    kept = (codes >= 0) & (left >= k)
    cells = owner[kept] * 4**k + codes[kept]
    return np.bincount(cells, minlength=len(sequences) * 4**k).reshape(len(sequences), -1)


def _blocks(examples: Examples) -> Iterator[tuple[int, int]]:
    """Yield ranges of examples of about _BLOCK bases together."""
    block = np.cumsum(examples.lengths) // _BLOCK
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(examples)], strict=True)
