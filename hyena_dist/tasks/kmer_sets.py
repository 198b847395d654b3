"""Sets of k-mers of sequences, and all pairs of sequences whose sets are similar.

A k-mer and its reverse complement count as one, so that strands do not matter. Pairs are found as by an index of words
(prefix filtering: Chaudhuri et al. 2006, Bayardo et al. 2007): if each set is ordered by how rare its members are,
similar sets share some of their first, rare members, and pairs that do are few. No pair is missed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES, A, N, Tokens
from hyena_dist.tasks.labelled import Examples

K = 11
"""Bases of a k-mer: 4^11 = 4 M words, of which sequences of 1,000 bases share few by chance."""
_BITS = 2 * K
# Rare members that similar sets must share, 8 or a 16th of their size: the more, the fewer pairs of sets pass that are
# not similar, and the longer it takes to find them.
_SHARED = 8
_SHARE = 16
_BLOCK = 2**24  # bases, or candidates, that are handled at once


class KmerSets(NamedTuple):
    """The set of k-mers of each of N sequences."""

    members: NDArray[np.uint32]
    """The ranks of all k-mers, ascending within a sequence; the rarest k-mer has rank 0."""
    offsets: NDArray[np.int64]
    """The members of sequence i are offsets[i] to offsets[i + 1]; [N + 1]."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Members of each set, [N]."""
        return np.diff(self.offsets)

    def of(self, number: int) -> NDArray[np.uint32]:
        """Return the members of one set."""
        return self.members[self.offsets[number] : self.offsets[number + 1]]

    def first(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Return the first counts[i] members of each set: the number of the set, and the member."""
        owner = np.repeat(np.arange(counts.size), self.sizes)
        kept = np.arange(self.members.size) - self.offsets[owner] < counts[owner]
        return owner[kept], self.members[kept]


def similar_pairs(
    ours: Examples, theirs: Examples, similarity: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return all pairs of a sequence of each side with this Jaccard similarity of their k-mers or more.

    Returns:
        Indices in `ours`, in `theirs`, and the similarities, in the order of the indices.
    """
    left, right = _kmer_sets(ours, theirs)
    found = [
        (i, j, shared / (left.sizes[i] + right.sizes[j] - shared))
        for i, j in _candidates(left, right, similarity)
        for shared in [np.intersect1d(left.of(i), right.of(j), assume_unique=True).size]
    ]
    kept = [pair for pair in found if pair[2] >= similarity]
    columns = list(zip(*kept, strict=True)) or [(), (), ()]
    return np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], np.float64)


def _candidates(left: KmerSets, right: KmerSets, similarity: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs that may be similar.

    Similar sets share at least `needed` members: their similarity times the size of either. If the rarest `shared` of
    these were not all among the first size - needed + shared of a set, the rest could not hold the others.
    """
    needed = [np.ceil(similarity * sets.sizes).astype(np.int64) for sets in (left, right)]
    least = [np.minimum(n, np.maximum(_SHARED, s.sizes // _SHARE)) for s, n in zip((left, right), needed, strict=True)]
    first = zip((left, right), needed, least, strict=True)
    (i, word), (j, other) = (sets.first(sets.sizes - n + shared) for sets, n, shared in first)
    order = np.argsort(other, kind="stable")
    j, other = j[order], other[order]
    low = np.searchsorted(other, word, "left")
    count = np.searchsorted(other, word, "right") - low
    width = right.sizes.size
    for part in _parts(i, count):
        hits = np.repeat(low[part] - np.r_[0, np.cumsum(count[part])[:-1]], count[part]) + np.arange(count[part].sum())
        a, b = np.repeat(i[part], count[part]), j[hits]
        sizes = left.sizes[a], right.sizes[b]
        alike = np.minimum(*sizes) >= similarity * np.maximum(*sizes)
        pairs, shared = np.unique(a[alike] * width + b[alike], return_counts=True)
        a, b = pairs // width, pairs % width
        kept = shared >= np.minimum(least[0][a], least[1][b])
        yield from zip(a[kept].tolist(), b[kept].tolist(), strict=True)


def _parts(owner: NDArray[np.int64], count: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices that hold about _BLOCK of what is counted, and each owner whole."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    block = (np.cumsum(count) // _BLOCK)[starts]
    cuts = [*starts[np.diff(block, prepend=-1) > 0].tolist(), owner.size]
    yield from map(slice, cuts, cuts[1:])


def _kmer_sets(*sides: Examples) -> list[KmerSets]:
    """Return the sets of sequences, whose members are ranked by how often they come in all sides together."""
    words = [list(_words(side)) for side in sides]
    often = np.zeros(4**K, np.int64)
    for side in words:
        for _, codes in side:
            often += np.bincount(codes, minlength=often.size)
    there = np.flatnonzero(often)
    rank = np.empty(often.size, np.uint32)
    rank[there[np.argsort(often[there], kind="stable")]] = np.arange(there.size, dtype=np.uint32)
    sets = []
    for examples, side in zip(sides, words, strict=True):
        keys = np.concatenate([_distinct(owner << _BITS | rank[codes]) for owner, codes in side])
        sizes = np.bincount(keys >> _BITS, minlength=len(examples))
        members = (keys & (4**K - 1)).astype(np.uint32)
        sets.append(KmerSets(members, np.r_[0, np.cumsum(sizes)]))
    return sets


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return keys ascending, each once; np.unique hashes, which takes ten times as long here."""
    keys.sort()
    return keys[np.r_[True, keys[1:] != keys[:-1]]] if keys.size else keys


def _words(examples: Examples) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    """Yield, for some sequences at a time, the sequence of each k-mer without N, and the k-mer."""
    block = np.cumsum(examples.lengths) // _BLOCK
    for number in np.unique(block):
        owners = np.flatnonzero(block == number)
        lengths = examples.lengths[owners] + 1  # an N between sequences, which no k-mer has
        tokens = np.full(lengths.sum() + K, N, np.uint8)
        for i, end in zip(owners.tolist(), np.cumsum(lengths).tolist(), strict=True):
            tokens[end - 1 - examples.lengths[i] : end - 1] = examples.read(i)
        codes, known = canonical_codes(tokens)
        yield np.repeat(owners, lengths)[known[: lengths.sum()]], codes[: lengths.sum()][known[: lengths.sum()]]


def canonical_codes(tokens: Tokens) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Return for each window of K bases the lower of its number to base 4 and that of its reverse complement.

    Args:
        tokens: uint8 [L], L >= K.

    Returns:
        Numbers, uint32 [L - K + 1], and whether the window has A, C, G and T alone, bool [L - K + 1].
    """
    windows = tokens.size - K + 1
    other = (tokens < A) | (tokens >= A + len(BASES))
    digits = np.where(other, 0, tokens - np.uint8(A)).astype(np.uint32)
    forward: NDArray[np.uint32] = np.zeros(windows, np.uint32)
    turned: NDArray[np.uint32] = np.zeros(windows, np.uint32)
    for at in range(K):
        digit = digits[at : at + windows]
        forward = (forward << np.uint32(2)) | digit
        turned |= (3 - digit) << np.uint32(2 * at)
    others = np.r_[0, np.cumsum(other)]
    return np.minimum(forward, turned), others[K:] == others[:windows]
