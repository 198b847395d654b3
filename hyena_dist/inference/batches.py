"""Sequences of similar length together, in batches of bounded size."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.data.tokenizer import PAD, Tokens


def batches_by_length(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Return the numbers of the sequences of each batch, longest sequences first, equal ones as they came.

    A batch has at most `max_tokens` tokens, padding included, or one sequence that is longer. What memory a job takes
    shows in its first batch.
    """
    order = np.argsort(-lengths, kind="stable")
    found = []
    first = 0
    while first < len(order):
        size = max(1, max_tokens // int(lengths[order[first]]))
        found.append(order[first : first + size])
        first += size
    return found


def pad_right(batch: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """Return sequences as one tensor, uint8 [B, S], padded where they are shorter, and their lengths, int64 [B].

    The model is causal, so that padding changes nothing before it.
    """
    lengths = [len(tokens) for tokens in batch]
    padded = np.full((len(batch), max(lengths)), PAD, np.uint8)
    for row, tokens in zip(padded, batch, strict=True):
        row[: len(tokens)] = tokens
    return torch.from_numpy(padded), torch.tensor(lengths)
