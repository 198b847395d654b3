"""The windows around variants: their bases, their lengths, and the laws that make scores comparable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.tokenizer import decode, encode, reverse_complement
from hyena_dist.inference.variant_windows import VariantWindow, WindowShape, why_not, windows_around
from hyena_dist.inference.vcf import Record

CONTIG = "ACGTTGCAACGTCCGATTAGGCAT"


def windows(contig: str, position: int, ref: str, *alts: str, w: int = 8, turned: bool = False) -> list[VariantWindow]:
    assert contig[position : position + len(ref)] == ref
    record = Record(1, "a", position, ".", ref, alts, "")
    return windows_around(record, encode(contig), WindowShape(w, 0.5), turned)


def texts(window: VariantWindow) -> list[str]:
    return [decode(row) for row in window.tokens]


def test_alternatives_keep_the_length_by_the_flank_behind() -> None:
    (found,) = windows(CONTIG, 10, "G", "T", "GAA")
    assert texts(found) == ["CAACGTCC", "CAACTTCC", "CAACGAAT"]
    assert (found.alts, found.shared) == ((0, 1), 4)
    (deletion,) = windows(CONTIG, 10, "GTC", "G")
    assert texts(deletion) == ["CAACGTCC", "CAACGCGA"]
    assert deletion.shared == 5


def test_the_other_strand_is_read_alike() -> None:
    (found,) = windows(CONTIG, 10, "GTC", "G", turned=True)
    mirrored = decode(reverse_complement(encode(CONTIG)))
    (same,) = windows(mirrored, len(CONTIG) - 13, "GAC", "C")
    assert texts(found) == texts(same)


@pytest.mark.parametrize(("position", "start"), [(0, 0), (2, 0), (23, 16), (22, 16)])
def test_windows_are_shifted_where_the_contig_ends(position: int, start: int) -> None:
    ref = CONTIG[position]
    (found,) = windows(CONTIG, position, ref, "A" if ref != "A" else "C")
    assert texts(found)[0] == CONTIG[start : start + 8]
    assert found.shared == position - start


def test_what_does_not_fit_is_left_out() -> None:
    assert windows(CONTIG, 10, "G", "G" + "A" * 4) == []
    assert len(windows(CONTIG, 10, "G", "G" + "A" * 3)) == 1
    assert windows("ACG", 0, "ACG", "A", w=8) == []  # one base would be left of the window


@pytest.mark.parametrize(
    ("alt", "why"),
    [
        ("T", None),
        ("acgt", None),
        ("<DEL>", "symbolic"),
        ("<INS:ME:ALU>", "symbolic"),
        ("*", "overlapping_deletion"),
        (".", "no_alternative"),
        ("G]17:198982]", "breakend"),
        ("]13:123456]T", "breakend"),
        (".A", "breakend"),
        ("<A[", "breakend"),
        ("N", "ambiguous_alternative"),
        ("C<ctg1>", "ambiguous_alternative"),
    ],
)
def test_why_an_alternative_is_not_scored(alt: str, why: str | None) -> None:
    assert why_not(Record(1, "a", 0, ".", "G", (alt,), ""), alt) == why
    assert why is not None or why_not(Record(1, "a", 0, ".", "N", (alt,), ""), alt) == "ambiguous_reference"


alleles = st.text("ACGT", min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(left=st.text("ACGT", max_size=30), right=st.text("ACGT", max_size=30), ref=alleles, alt=alleles, data=st.data())
def test_swapping_ref_and_alt_swaps_the_windows(left: str, right: str, ref: str, alt: str, data: st.DataObject) -> None:
    shape = WindowShape(data.draw(st.integers(2, 24)), data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])))
    turned = data.draw(st.booleans())

    def of(genome_has: str, other: str) -> list[VariantWindow]:
        record = Record(1, "a", len(left), ".", genome_has, (other,), "")
        return windows_around(record, encode(left + genome_has + right), shape, turned)

    given_order, swapped = of(ref, alt), of(alt, ref)
    assert len(given_order) == len(swapped)
    for a, b in zip(given_order, swapped, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens[::-1])
        assert a.shared == b.shared
        whole = left + ref + right
        assert texts(a)[0] in (decode(reverse_complement(encode(whole))) if turned else whole)
        changed = left + alt + right
        assert texts(a)[1] in (decode(reverse_complement(encode(changed))) if turned else changed)
