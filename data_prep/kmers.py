"""Counts of the k-mers of a store, which are the windows of k bases without N at every position of every contig."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import BASES, A, C, G, N, Tokens
from hyena_dist.errors import UserError

MAX_K = 8
"""Longest k-mers that are counted: there are 4^8 = 65,536, and the codes of longer ones would not fit into 16 bits."""
_BLOCK = 2**20
"""Bases that are counted at once, few enough that their codes stay in the processor's cache."""


@dataclass(frozen=True)
class KmerTable:
    """The counts of all k-mers on the strand that the store holds.

    Attributes:
        k: number of bases of a k-mer.
        counts: how often each k-mer occurs in each species ("" if the store has none), int64 [4^k]. The place of a
            k-mer is its code, the k-mer as a number of base 4 with the digits A 0, C 1, G 2, T 3, so that the order is
            the alphabet's.
        cpg: observed by expected CpG of each species, as `cpg_ratio` says.
    """

    k: int
    counts: dict[str, NDArray[np.int64]]
    cpg: dict[str, float]

    @property
    def total(self) -> NDArray[np.int64]:
        """Counts over all species, int64 [4^k]."""
        return np.sum(list(self.counts.values()), axis=0)


def count_kmers(store: GenomeStore, k: int, on_bases: Callable[[int], object] = lambda count: None) -> KmerTable:
    """Count every window of k bases without N, in a few MB of memory however long a contig is.

    Args:
        store: genome store to count.
        k: number of bases of a k-mer, 1 to 8.
        on_bases: called with the number of bases after each block that was counted.

    Raises:
        UserError: `k` is out of range, or a file is missing or damaged.
    """
    if not 1 <= k <= MAX_K:
        raise UserError(f"k-mers of {k} bases cannot be counted; choose 1 to {MAX_K}")
    contigs = store.contigs
    names = store.species or [""]
    counts = {name: np.zeros(4**k, np.int64) for name in names}
    cpg = dict.fromkeys(names, 0)
    for species, block, repeated in _blocks(store, max(k, 2) - 1):
        name = names[species]
        if k > 1:
            counts[name] += np.bincount(window_codes(block, k), minlength=4**k)
        pairs = block[: block.size - max(repeated - 1, 0)]
        cpg[name] += int(np.count_nonzero((pairs[:-1] == C) & (pairs[1:] == G)))
        on_bases(block.size - repeated)
    bases = {}
    for number, name in enumerate(names):
        of_species = contigs.composition[contigs.species == number] if store.species else contigs.composition
        bases[name] = of_species[:, :4].sum(axis=0)
    if k == 1:
        counts = bases
    return KmerTable(k, counts, {name: cpg_ratio(bases[name], cpg[name]) for name in names})


def _blocks(store: GenomeStore, overlap: int) -> Iterator[tuple[int, Tokens, int]]:
    """Yield blocks of the sequences of one species each, with N between contigs.

    A block that ends within a contig reaches by `overlap` bases into the next, so that each window of `overlap` + 1
    bases has its start in one block alone.

    Yields:
        The species' number (0 without labels), the block, and how many bases at its end the next block has as well.
    """
    contigs = store.contigs
    waiting: list[Tokens] = []
    size = 0
    of_waiting = repeated = 0
    gap = np.full(1, N, np.uint8)
    for number, (species, length) in enumerate(zip(contigs.species.tolist(), contigs.lengths.tolist(), strict=True)):
        for start in range(0, length, _BLOCK):
            if waiting and (species != of_waiting or size >= _BLOCK):
                yield max(of_waiting, 0), np.concatenate(waiting), repeated
                waiting, size = [], 0
            of_waiting = species
            piece = store.read(number, start, min(length, start + _BLOCK + overlap))
            repeated = max(piece.size - _BLOCK, 0)  # a piece that is longer is the last of its block
            waiting += [gap, piece]
            size += piece.size
    yield max(of_waiting, 0), np.concatenate(waiting), 0


def window_codes(tokens: Tokens, k: int) -> NDArray[np.uint16]:
    """Return the codes of the windows of k bases that hold A, C, G and T alone.

    Args:
        tokens: uint8 [L].
        k: number of bases of a window, 1 to 8.

    Returns:
        Codes in the order of their positions, uint16 [windows], at most L - k + 1.
    """
    windows = tokens.size - k + 1
    if windows <= 0:
        return np.empty(0, np.uint16)
    digits = (tokens - np.uint8(A)).astype(np.uint16)
    codes: NDArray[np.uint16] = np.bitwise_and(digits[:windows], np.uint16(3), dtype=np.uint16)
    for offset in range(1, k):
        codes <<= 2
        codes |= digits[offset : offset + windows] & 3
    other = digits >= len(BASES)
    if not other.any():
        return codes
    bad = other[:windows].copy()
    for offset in range(1, k):
        bad |= other[offset : offset + windows]
    return codes[~bad]


def cpg_ratio(bases: NDArray[np.int64], cpg: int) -> float:
    """Return the observed by the expected number of CpG: CpG * bases / (C * G) (Gardiner-Garden and Frommer 1987).

    The ratio is about 1 where C and G meet by chance, and 0.2 in vertebrates, whose methylated CpG decays.

    Args:
        bases: counts of A, C, G and T, int64 [4].
        cpg: how often CG occurs.

    Returns:
        The ratio, or nan without C or G.
    """
    expected = int(bases[1]) * int(bases[2])
    return cpg * int(bases.sum()) / expected if expected else float("nan")


def both_strands(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add to the count of each k-mer the count of its reverse complement, which is its count on the other strand.

    A palindrome such as ACGT counts twice at each place, once per strand.

    Args:
        counts: counts on one strand, int64 [4^k].

    Returns:
        Counts on both strands, int64 [4^k].
    """
    k = (counts.size.bit_length() - 1) // 2
    codes = np.arange(counts.size)
    reverse = np.zeros_like(codes)
    for _ in range(k):
        reverse = reverse << 2 | 3 - (codes & 3)
        codes >>= 2
    return counts + counts[reverse]


def kmer_names(k: int) -> list[str]:
    """Return all k-mers in the order of their codes, such as AA, AC, AG, AT, CA, ..."""
    names = [""]
    for _ in range(k):
        names = [name + letter for name in names for letter in "ACGT"]
    return names
