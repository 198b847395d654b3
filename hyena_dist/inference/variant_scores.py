"""The scores of variants: those of a record, and those of all of them in memory.

Shapes: A alternatives, S strands.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.inference.vcf import Record


class Scored(NamedTuple):
    """A record and what the model says of it."""

    record: Record
    numbers: NDArray[np.float64]
    """Log-likelihood of REF's and of ALT's window and scored bases of each, [A, S, 4]; NaN where not scored."""
    skipped: list[str]
    """Why an alternative was not scored; "" where it was; [A]."""


def deltas(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log-likelihood differences by strand, of sums and of means, [A, S] each of [A, S, 4]."""
    ref, alt, ref_bases, alt_bases = np.moveaxis(numbers, -1, 0)
    return alt - ref, alt / alt_bases - ref / ref_bases


class VariantScores(NamedTuple):
    """The scores of A alternatives, record after record in the order of the input. Logarithms are natural."""

    chrom: list[str]
    pos: NDArray[np.int64]
    """Position of the first base of REF, from 1, [A]."""
    ref: list[str]
    alt: list[str]
    delta: NDArray[np.float64]
    """Log-likelihood of the window with ALT minus that with REF, strands averaged; NaN if not scored; [A]."""
    delta_mean: NDArray[np.float64]
    """Difference of the means over scored bases, likewise, [A]."""
    by_strand: NDArray[np.float64]
    """Delta of each strand, [A, 1 or 2]; the other strand comes second."""
    skipped: list[str]
    """Why an alternative was not scored; "" where it was."""


def gather(found: Sequence[Scored]) -> VariantScores:
    """Return the scores of all records together."""
    numbers = np.concatenate([scored.numbers for scored in found])
    by_strand, mean = deltas(numbers)
    records = [scored.record for scored in found for _ in scored.skipped]
    return VariantScores(
        [record.chrom for record in records],
        np.array([record.position + 1 for record in records], np.int64),
        [record.ref for record in records],
        [alt for scored in found for alt in scored.record.alts],
        by_strand.mean(1),
        mean.mean(1),
        by_strand,
        [why for scored in found for why in scored.skipped],
    )
