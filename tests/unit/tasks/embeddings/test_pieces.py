"""Pieces of sequences: nearly equal, without what has no bases, and joined to the mean over all bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.data.batches import is_base
from hyena_dist.data.tokenizer import encode
from hyena_dist.errors import UserError
from hyena_dist.tasks.embeddings.pieces import cut
from hyena_dist.tasks.labelled import Examples


def given_texts(*texts: str) -> Examples:
    tokens = [encode(text) for text in texts]
    return Examples(list(texts), np.array([len(t) for t in tokens]), np.zeros(len(texts), np.int64), tokens.__getitem__)


@given(
    st.lists(st.text("ACGTN", min_size=1, max_size=60).map(lambda text: text + "A"), min_size=1, max_size=5),
    st.integers(1, 20),
)
def test_joined_means_of_pieces_are_those_of_sequences(texts: list[str], longest: int) -> None:
    texts = [f"G{text}" for text in texts]
    pieces = cut(given_texts(*texts), longest)
    assert pieces.sequences.lengths.max() <= longest
    means = np.array([[p[is_base(p)].mean()] for p in map(pieces.sequences.tokens, range(len(pieces.owner)))])
    expected = [[t[is_base(t)].mean()] for t in map(encode, texts)]
    np.testing.assert_allclose(pieces.join(means.astype(np.float32)), expected, rtol=1e-5)


def test_pieces_are_nearly_equal_and_those_of_n_alone_are_left_out() -> None:
    pieces = cut(given_texts("ACGTACGTACG", "NNNNNNNNACGT"), 4)
    assert pieces.sequences.lengths.tolist() == [4, 4, 3, 4]
    assert pieces.owner.tolist() == [0, 0, 0, 1]


def test_a_sequence_without_bases_is_named() -> None:
    with pytest.raises(UserError, match="sequence 'NNNN' has no A, C, G or T"):
        cut(given_texts("ACG", "NNNN"), 8)
