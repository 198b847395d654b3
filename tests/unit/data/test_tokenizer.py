"""The published vocabulary and its laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyena_dist.data import tokenizer
from hyena_dist.data.tokenizer import ENCODE_TABLE, INVALID, VOCAB_SIZE, decode, encode, reverse_complement
from hyena_dist.errors import UserError


def test_the_published_ids() -> None:
    assert tokenizer.VOCAB == {
        "[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4, "[RESERVED]": 5, "[UNK]": 6,
        "A": 7, "C": 8, "G": 9, "T": 10, "N": 11,
    }  # fmt: skip
    assert tokenizer.BASES == (7, 8, 9, 10)
    assert (tokenizer.PAD, tokenizer.SEP, tokenizer.N, VOCAB_SIZE) == (4, 1, 11, 12)


def test_letters() -> None:
    assert encode("ACGTUN").tolist() == [7, 8, 9, 10, 10, 11]
    assert encode(b"acgtun").tolist() == [7, 8, 9, 10, 10, 11]
    assert set(encode("RYSWKMBDHVXryswkmbdhvx-.").tolist()) == {11}
    allowed = set(b"ACGTURYSWKMBDHVXNacgturyswkmbdhvxn-.")
    assert {byte for byte in range(256) if ENCODE_TABLE[byte] != INVALID} == allowed


@pytest.mark.parametrize(
    ("sequence", "letter"), [("ACE", "'E'"), (b"AC*", r"'\*'"), ("ACé", "'é'"), ("AC\n", r"'\\n'")]
)
def test_other_letters_are_refused(sequence: str | bytes, letter: str) -> None:
    with pytest.raises(UserError, match=f"letter {letter} at position 2"):
        encode(sequence)


@given(st.text("ACGTN"))
def test_decode_undoes_encode(sequence: str) -> None:
    assert decode(encode(sequence)) == sequence
    assert encode(sequence).dtype == np.uint8


@given(st.lists(st.integers(0, VOCAB_SIZE - 1)))
def test_decode_names_every_token(tokens: list[int]) -> None:
    assert decode(np.array(tokens, dtype=np.int64)) == "".join(tokenizer.TOKENS[token] for token in tokens)


@pytest.mark.parametrize("token", [12, 255, -1])
def test_decode_refuses_what_is_no_token(token: int) -> None:
    with pytest.raises(UserError, match=f"token {token} is not in the vocabulary"):
        decode(np.array([7, token]))


def test_reverse_complement_of_bases() -> None:
    assert decode(reverse_complement(encode("AACGTTGN"))) == "NCAACGTT"


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3), elements=st.integers(0, 255)))
def test_reverse_complement_is_an_involution(tokens: np.ndarray) -> None:
    once = reverse_complement(tokens)
    assert once.dtype == np.uint8
    assert once.flags.c_contiguous
    np.testing.assert_array_equal(reverse_complement(once), tokens)
    is_base = (tokens >= 7) & (tokens <= 10)
    np.testing.assert_array_equal(once[..., ::-1][~is_base], tokens[~is_base])
    np.testing.assert_array_equal(once[..., ::-1][is_base], 17 - tokens[is_base])
