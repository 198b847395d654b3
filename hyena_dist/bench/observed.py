"""A measure of scores: they may tell variants that people have from random ones, beside a Markov chain's.

Variants that were observed have passed selection, and mutation made them by rules that a model of sequences can know
(transitions, CpG). The area under the curve (AUROC) is the chance that an observed SNV has a higher delta than a random
one: 0.5 for scores that say nothing.

Shapes: V variants, K = 2 * order + 1 bases around one.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.batches import is_base
from hyena_dist.data.text.contigs import Contigs, read_contigs
from hyena_dist.data.tokenizer import BASES, LETTERS, A, Tokens, reverse_complement
from hyena_dist.errors import UserError
from hyena_dist.inference.variants import score_variants
from hyena_dist.inference.vcf import as_variants

ORDER = 5
"""Bases before one that the chain sees."""
_LETTERS = frozenset("ACGT")
Snv = tuple[str, int, str, str]


class ObservedCase(NamedTuple):
    """A model, and variants to sample from."""

    vcf: Path
    genome: Path
    model: Path
    markov: Path
    """FASTA file that the chain is counted on."""
    window: int
    number: int
    """Observed SNVs that are taken, and as many random ones."""
    modulation_shift: float | None


def bench_observed(case: ObservedCase) -> dict[str, float]:
    """Print the AUROC of observed against random SNVs, of the model and of the chain, and return them by name.

    Raises:
        UserError: what `score_variants` refuses, or a VCF file without SNVs.
    """
    genome = read_contigs(case.genome)
    observed, random = sample(case, genome)
    found = score_variants(
        case.model, observed + random, case.genome, window=case.window, modulation_shift=case.modulation_shift
    )
    assert found is not None
    scores = {"model": found.delta, f"Markov chain of order {ORDER}": markov_deltas(observed + random, genome, case)}
    print(f"{len(observed):,} observed and {len(random):,} random SNVs, windows of {case.window:,} bases")
    results = {}
    for name, delta in scores.items():
        results[name] = auroc(delta[: len(observed)], delta[len(observed) :])
        print(f"{name}: AUROC {results[name]:.3f}")
    return results


def sample(case: ObservedCase, genome: Contigs) -> tuple[list[Snv], list[Snv]]:
    """Return observed SNVs, evenly from the file, and as many random ones at places between its first and last."""
    records = [
        record
        for record in as_variants(case.vcf).records()
        if record.ref in _LETTERS and record.alts[0] in _LETTERS and record.position >= ORDER
    ]
    if not records:
        raise UserError(f"{case.vcf} has no SNVs; give a file that has some")
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(case.number, len(records))).astype(int).tolist()]
    rng = np.random.default_rng(0)
    random: list[Snv] = []
    while len(random) < len(chosen):
        near = chosen[len(random)]  # as many on each contig
        inside = [record.position for record in chosen if record.chrom == near.chrom]
        position = int(rng.integers(min(inside), max(inside) + 1))
        base = genome.tokens(genome.number_of(near.chrom))[position]
        if is_base(base):
            alt = int(rng.choice([each for each in BASES if each != base]))
            random.append((near.chrom, position + 1, chr(LETTERS[base]), chr(LETTERS[alt])))
    return [(record.chrom, record.position + 1, record.ref, record.alts[0]) for record in chosen], random


def markov_deltas(variants: list[Snv], genome: Contigs, case: ObservedCase) -> NDArray[np.float64]:
    """Return the log-likelihood differences of SNVs under a Markov chain, both strands averaged, [V].

    Raises:
        UserError: the FASTA file to count on cannot be read.
    """
    counts = np.full(4 ** (ORDER + 1), 0.5)
    counted = read_contigs(case.markov)
    for number in range(len(counted.names)):
        tokens = counted.tokens(number)
        for strand in (tokens, reverse_complement(tokens)):
            counts += np.bincount(_words(strand[is_base(strand)] - A), minlength=len(counts))
    by_context = counts.reshape(-1, 4)
    log_p = np.log(by_context / by_context.sum(1, keepdims=True)).ravel()
    around = []
    for chrom, pos, _, _ in variants:
        contig = genome.tokens(genome.number_of(chrom))
        around.append(contig[pos - 1 - ORDER : pos + ORDER])
    ref = np.stack(around)
    alt = ref.copy()
    alt[:, ORDER] = [int(np.flatnonzero(ord(letter) == LETTERS)[-1]) for _, _, _, letter in variants]
    strands = ((ref, alt), (reverse_complement(ref), reverse_complement(alt)))
    return np.mean([_chain(log_p, b) - _chain(log_p, a) for a, b in strands], axis=0)


def _chain(log_p: NDArray[np.float64], around: Tokens) -> NDArray[np.float64]:
    """Return the sum over words of tokens [V, K], an N taken for what it is not: its words are the same in both."""
    total: NDArray[np.float64] = log_p[_words(np.where(is_base(around), around - A, 0))].sum(-1)
    return total


def _words(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the numbers of the words of ORDER + 1 digits, [..., L - ORDER] of [..., L]."""
    length = digits.shape[-1] - ORDER
    words = np.zeros((*digits.shape[:-1], length), np.int64)
    for i in range(ORDER + 1):
        words = 4 * words + digits[..., i : i + length]
    return words


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the chance that a positive is above a negative, ties by half."""
    values, rank = np.unique(np.concatenate((positive, negative)), return_inverse=True)
    above = np.bincount(rank[: len(positive)], minlength=len(values))
    below = np.bincount(rank[len(positive) :], minlength=len(values))
    wins = (above * (np.cumsum(below) - below / 2)).sum()
    return float(wins / (len(positive) * len(negative)))
