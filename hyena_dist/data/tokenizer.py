"""The vocabulary of the published HyenaDNA models: one token for each nucleotide.

Everything is a 256-entry table, so that whole chromosomes are converted without a Python loop.
"""

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError

Tokens = NDArray[np.uint8]

TOKENS = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N")
CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, A, C, G, T, N = range(len(TOKENS))
VOCAB = {name: token for token, name in enumerate(TOKENS)}
VOCAB_SIZE = len(TOKENS)
BASES = (A, C, G, T)
"""The tokens that a loss or a perplexity counts."""

INVALID = 255
"""What ENCODE_TABLE holds for a byte that no nucleotide sequence contains; never a token."""


def _encode_table() -> Tokens:
    table = np.full(256, INVALID, dtype=np.uint8)
    ambiguous = dict.fromkeys("RYSWKMBDHVXN-.", N)
    for letter, token in {"A": A, "C": C, "G": G, "T": T, "U": T, **ambiguous}.items():
        table[ord(letter)] = table[ord(letter.lower())] = token
    return table


def _complement_table() -> Tokens:
    table = np.arange(256, dtype=np.uint8)
    table[[A, C, G, T]] = [T, G, C, A]
    return table


ENCODE_TABLE = _encode_table()
"""uint8 [256]: byte of text -> token, or INVALID."""
COMPLEMENT_TABLE = _complement_table()
"""uint8 [256]: token -> token of the opposite strand; everything but A, C, G and T is its own complement."""
_LETTERS = np.frombuffer(b"?" * A + b"ACGTN", dtype=np.uint8)


def encode(sequence: bytes | str) -> Tokens:
    """Turn nucleotide letters of either case into tokens.

    U becomes T; the IUPAC ambiguity codes, X, '-' and '.' become N.

    Args:
        sequence: L letters.

    Returns:
        Tokens, uint8 [L].

    Raises:
        UserError: a letter that no nucleotide sequence has.
    """
    text = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    tokens = ENCODE_TABLE[np.frombuffer(text, dtype=np.uint8)]
    invalid = np.flatnonzero(tokens == INVALID)
    if invalid.size:
        at = int(invalid[0])
        letter = sequence[at] if isinstance(sequence, str) else chr(sequence[at])
        raise UserError(
            f"letter {letter!r} at position {at} is not a nucleotide; use A C G T U N or an IUPAC ambiguity code"
        )
    return tokens


def decode(tokens: NDArray[np.integer]) -> str:
    """Turn tokens into text; special tokens appear by name, such as "[PAD]".

    Args:
        tokens: any integer type, [L].

    Raises:
        UserError: a number outside the vocabulary.
    """
    if tokens.size == 0:
        return ""
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= VOCAB_SIZE:
        raise UserError(
            f"token {high if low >= 0 else low} is not in the vocabulary of {VOCAB_SIZE} tokens; "
            f"mask the model's padding logits before choosing tokens"
        )
    if low >= A:
        return _LETTERS[tokens].tobytes().decode("ascii")
    return "".join(TOKENS[token] for token in tokens.tolist())


def reverse_complement(tokens: Tokens) -> Tokens:
    """Read the opposite strand: reverse the last axis and complement each base.

    Args:
        tokens: uint8 [..., L].

    Returns:
        A new C-contiguous uint8 [..., L]; special tokens and N keep their value. Applied twice it is the identity.
    """
    # np.take, unlike indexing, never keeps the negative stride, which torch.from_numpy would refuse.
    return np.take(COMPLEMENT_TABLE, tokens[..., ::-1])
