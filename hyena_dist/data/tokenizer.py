"""The vocabulary of the published HyenaDNA models, one token for each nucleotide, and conversions to and from text.

Conversions look bytes up in tables of 256 entries, so that whole chromosomes pass without a Python loop.
"""

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError

Tokens = NDArray[np.uint8]
"""An array of tokens, one byte each."""

# The published vocabulary reserves numbers 0 to 6 for special tokens; data holds A, C, G, T and N alone.
TOKENS = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N")
CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, A, C, G, T, N = range(len(TOKENS))
VOCAB = {name: token for token, name in enumerate(TOKENS)}
"""The number of each token, by its name."""
VOCAB_SIZE = len(TOKENS)
BASES = (A, C, G, T)
"""The tokens that a loss or a perplexity counts: four successive numbers, the lowest first."""

INVALID = 255
"""A value that is no token, which ENCODE_TABLE holds for every byte that no nucleotide sequence contains."""


def _encode_table() -> Tokens:
    """Return ENCODE_TABLE: letters of either case, with U read as T and ambiguity codes as N."""
    table = np.full(256, INVALID, dtype=np.uint8)
    ambiguous = dict.fromkeys("RYSWKMBDHVXN-.", N)
    for letter, token in {"A": A, "C": C, "G": G, "T": T, "U": T, **ambiguous}.items():
        table[ord(letter)] = token
        table[ord(letter.lower())] = token
    return table


def _complement_table() -> Tokens:
    """Return COMPLEMENT_TABLE: A with T and C with G exchanged, all else unchanged."""
    table = np.arange(256, dtype=np.uint8)
    table[[A, C, G, T]] = [T, G, C, A]
    return table


ENCODE_TABLE = _encode_table()
"""The token of each byte of text, or INVALID; uint8 [256]."""
COMPLEMENT_TABLE = _complement_table()
"""The token that pairs with each token on the opposite strand, itself for all but A, C, G and T; uint8 [256]."""
LETTERS = np.frombuffer(b"?" * A + b"ACGTN", dtype=np.uint8)
"""The ASCII letter of each token, "?" for the special ones; uint8 [VOCAB_SIZE]."""


def encode(sequence: bytes | str) -> Tokens:
    """Turn nucleotide letters of either case into tokens.

    U becomes T; the IUPAC ambiguity codes, X, '-' and '.' become N.

    Args:
        sequence: text of L letters.

    Returns:
        Tokens, uint8 [L].

    Raises:
        UserError: The text has a letter that no nucleotide sequence has.
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
        tokens: integers of any type, [L].

    Returns:
        The names of the tokens, one after the other; L letters where no token is special.

    Raises:
        UserError: A number is not in the vocabulary.
    """
    if tokens.size == 0:
        return ""
    low = int(tokens.min())
    high = int(tokens.max())
    if low < 0 or high >= VOCAB_SIZE:
        raise UserError(
            f"token {high if low >= 0 else low} is not in the vocabulary of {VOCAB_SIZE} tokens; "
            f"mask the model's padding logits before choosing tokens"
        )
    if low >= A:
        return LETTERS[tokens].tobytes().decode("ascii")
    return "".join(TOKENS[token] for token in tokens.tolist())


def reverse_complement(tokens: Tokens) -> Tokens:
    """Return the sequence of the opposite strand: each base replaced by its partner, in reverse order.

    Args:
        tokens: uint8 [..., L].

    Returns:
        A new C-contiguous array, uint8 [..., L], in which special tokens and N keep their value. The reverse
        complement of the reverse complement is the sequence itself.
    """
    # np.take, unlike indexing, never keeps the negative stride, which torch.from_numpy would refuse.
    return np.take(COMPLEMENT_TABLE, tokens[..., ::-1])
