"""The windows around a variant: the genome's own, and one for each alternative allele.

A window has W bases, of which floor(W * position) are before the variant in the direction of reading; where the
contig ends sooner, it is shifted. The window of an alternative begins at the same base. It has the alternative in place
of REF and W bases as well, because the flank behind it is longer or shorter: so both have as many bases to be scored,
and swapping REF and ALT swaps the windows. The other strand is read in the same way: the flank that gives way is then
the one before the variant on the given strand.

Shapes: W bases of a window, L bases of a contig, A alternatives.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens, encode, reverse_complement
from hyena_dist.inference.vcf import Record

_BASES = frozenset("ACGTacgt")


class WindowShape(NamedTuple):
    """The choice of windows."""

    length: int
    """W, unless the contig is shorter."""
    position: float
    """The share of a window that is before the variant, from 0 to 1."""

    def before(self, width: int) -> int:
        """Return how many of a window's bases are before the variant, which has one at least."""
        return min(int(width * self.position), width - 1)


class VariantWindow(NamedTuple):
    """The windows of REF and of the alternatives that have the same one to be compared with."""

    alts: tuple[int, ...]
    """Numbers of these alternatives in the record, from 0."""
    tokens: Tokens
    """The genome's window, then one for each alternative; uint8 [1 + A, W]."""
    shared: int
    """First positions, at which all rows have the same bases."""


def why_not(record: Record, alt: str) -> str | None:
    """Return in one word why an alternative cannot be scored whatever the genome is; None if it can."""
    if alt in (".", ""):
        return "no_alternative"
    if alt == "*":
        return "overlapping_deletion"
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return "breakend"
    if alt.startswith("<"):
        return "symbolic"
    if not _BASES.issuperset(alt):
        return "ambiguous_alternative"
    return None if _BASES.issuperset(record.ref) else "ambiguous_reference"


def windows_around(record: Record, contig: Tokens, shape: WindowShape, turned: bool) -> list[VariantWindow]:
    """Return the windows of the alternatives that can be scored, those with the same genomic window together.

    An alternative that does not fit into its window, or not beside a base of it, is in none.

    Args:
        record: the variant, whose REF is the contig's.
        contig: uint8 [L].
        shape: the choice of windows.
        turned: whether to read the other strand.
    """
    length, ref = len(contig), encode(record.ref)
    at = length - record.position - len(ref) if turned else record.position
    places: dict[tuple[int, int], dict[int, Tokens]] = {}
    for number, text in enumerate(record.alts):
        if why_not(record, text) is not None:
            continue
        alt = reverse_complement(encode(text)) if turned else encode(text)
        shorter = max(0, len(ref) - len(alt))  # bases behind the genome's window that the alternative's has
        width = min(shape.length, length - shorter)
        start = min(max(0, at - shape.before(width)), length - shorter - width)
        if at - start + max(len(ref), len(alt)) <= width:
            places.setdefault((start, width), {})[number] = alt
    return [_build(contig, start, width, at, len(ref), alts, turned) for (start, width), alts in places.items()]


def _build(
    contig: Tokens, start: int, width: int, at: int, ref: int, alts: dict[int, Tokens], turned: bool
) -> VariantWindow:
    end = start + width + max(0, ref - min(len(alt) for alt in alts.values()))
    given = slice(len(contig) - end, len(contig) - start) if turned else slice(start, end)
    around = reverse_complement(contig[given]) if turned else contig[given]
    before, behind = around[: at - start], around[at - start + ref :]
    rows = [around[:width]]
    rows += [np.concatenate((before, alt, behind))[:width] for alt in alts.values()]
    tokens: NDArray[np.uint8] = np.stack(rows)
    different = (tokens[1:] != tokens[0]).any(0)
    return VariantWindow(tuple(alts), tokens, int(different.argmax()) if different.any() else width)
