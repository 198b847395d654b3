"""Sequences cut into pieces that a model can read, and the numbers of pieces joined to those of sequences.

Shapes: N sequences, P pieces, F numbers of an embedding.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.batches import is_base
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import Sequences
from hyena_dist.tasks.labelled import Examples


class Pieces(NamedTuple):
    """Pieces of sequences, without those that hold no A, C, G or T."""

    sequences: Sequences
    """The P pieces, as `embed` takes them."""
    owner: NDArray[np.int64]
    """Which of the N sequences each piece is of, ascending, [P]."""
    bases: NDArray[np.int64]
    """How many A, C, G and T each piece holds, [P]."""

    def join(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean over the bases of each sequence, [N, F], given that over the bases of each piece, [P, F]."""
        first = np.flatnonzero(np.diff(self.owner, prepend=-1))
        weights = self.bases / np.repeat(np.add.reduceat(self.bases, first), np.diff(first, append=len(self.owner)))
        return np.add.reduceat(means * weights[:, None], first).astype(np.float32)


def cut(examples: Examples, longest: int) -> Pieces:
    """Cut each sequence into as few pieces of nearly equal length as fit, so that none is a small remainder.

    Args:
        examples: N sequences.
        longest: bases of a piece at most.

    Raises:
        UserError: a sequence has no A, C, G or T.
    """
    names: list[str] = []
    pieces: list[Tokens] = []
    owner: list[int] = []
    digest = hashlib.sha256()
    for number, name in enumerate(examples.names):
        tokens = examples.read(number)
        parts = [part for part in np.array_split(tokens, max(1, -(-len(tokens) // longest))) if is_base(part).any()]
        if not parts:
            raise UserError(f"sequence {name!r} has no A, C, G or T to take an embedding of; leave it out")
        names += [f"{number}:{part}" for part in range(len(parts))]
        pieces += parts
        owner += [number] * len(parts)
        for part in parts:
            digest.update(part.tobytes() + b"\0")
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    bases = np.array([int(is_base(piece).sum()) for piece in pieces], np.int64)
    sequences = Sequences(names, lengths, pieces.__getitem__, digest.hexdigest())
    return Pieces(sequences, np.array(owner, np.int64), bases)
