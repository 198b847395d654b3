"""Features count what a loop over letters counts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.data.tokenizer import decode, encode, reverse_complement
from hyena_dist.tasks.floors import features
from hyena_dist.tasks.labelled import Examples

SEQUENCES = st.lists(st.text("ACGTN", max_size=12), min_size=1, max_size=5)


def examples_of(sequences: list[str]) -> Examples:
    tokens = [encode(each) for each in sequences]
    return Examples(sequences, np.array([len(t) for t in tokens]), np.zeros(len(tokens)), lambda i: tokens[i])


def counted(sequence: str, k: int) -> np.ndarray:
    table = np.zeros(4**k)
    for i in range(len(sequence) - k + 1):
        word = sequence[i : i + k]
        if "N" not in word:
            table[int("".join(str("ACGT".index(letter)) for letter in word), 4)] += 1
    return table


@given(SEQUENCES, st.integers(1, 3))
def test_kmers_are_counted_within_each_sequence(sequences: list[str], k: int) -> None:
    counts = np.array([counted(each, k) for each in sequences])
    expected = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(features.kmer_frequencies(examples_of(sequences), k), expected, rtol=1e-6)


@given(SEQUENCES)
def test_both_strands_are_the_same_from_either(sequences: list[str]) -> None:
    opposite = [decode(reverse_complement(encode(each))) for each in sequences]
    ours, theirs = (
        features.kmer_frequencies(examples_of(each), 2, both_strands=True) for each in (sequences, opposite)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_blocks_change_nothing(monkeypatch) -> None:
    examples = examples_of(["ACGTA", "", "CCGTN", "TTTTTTTTT"])
    at_once = features.kmer_frequencies(examples, 2)
    monkeypatch.setattr(features, "_BLOCK", 4)
    np.testing.assert_array_equal(features.kmer_frequencies(examples, 2), at_once)


def test_the_middle_is_where_it_is() -> None:
    found = features.middle_bases(examples_of(["AACGTT", "CG", "N"]), 4).reshape(3, 4, 4)
    letters = ["".join("ACGT"[base.argmax()] if base.any() else "." for base in row) for row in found]
    assert letters == ["ACGT", ".CG.", "...."]
