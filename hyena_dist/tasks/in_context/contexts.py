"""Contexts as tokens: soft tokens' places, demonstrations with their letters, and a query that waits for its letter."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.data.tokenizer import PAD, SEP, TOKENS, A, C, G, N, T, Tokens
from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import Examples, LabelledData

LETTERS = (A, C, G, T, N)
"""The token that stands for each class, in the order of the classes."""


class Context(NamedTuple):
    """A context, padded behind: the model is causal, so that nothing that counts sees the padding."""

    inputs: Tokens
    """Tokens, uint8 [S]; [PAD] in the places of soft tokens too."""
    targets: NDArray[np.int64]
    """The letter to follow each input where one is to be learned, else -100; int64 [S]."""
    answer: int
    """The position after which the query's letter is predicted: the last one that holds a token."""


def check_classes(data: LabelledData) -> None:
    """Refuse labels that letters cannot stand for.

    Raises:
        UserError: no single class per sequence, or more classes than letters.
    """
    if data.kind != "single_label":
        raise UserError(
            f"in-context learning answers with the letter of one class, and these labels are {data.kind}; use a head: "
            f"leave task.in_context out"
        )
    if not 2 <= len(data.classes) <= len(LETTERS):
        letters = ", ".join(TOKENS[token] for token in LETTERS)
        raise UserError(
            f"the letters {letters} stand for 2 to {len(LETTERS)} classes, and these labels have {len(data.classes)}; "
            f"merge classes, or use a head: leave task.in_context out"
        )


def longest_context(data: LabelledData, settings: InContextConfig, l_max: int) -> int:
    """Return the most positions that a context of these examples can take.

    Raises:
        UserError: more than the model has.
    """
    between = int(settings.separator)
    query = max(int(split.lengths.max()) for split in data.splits.values() if len(split)) + between
    demonstration = int(data.splits["train"].lengths.max()) + between + 1
    needed = settings.soft_tokens + settings.shots * demonstration + query
    if needed > l_max:
        room = l_max - query
        limits = [f"{max(0, room - settings.soft_tokens) // demonstration} shots"]
        if settings.soft_tokens:
            limits.append(f"{max(0, room - settings.shots * demonstration)} prompt_tokens")
        raise UserError(
            f"a context of {settings.soft_tokens} soft tokens, {settings.shots} demonstrations and a query takes up "
            f"to {needed:,} positions, and the model has {l_max:,} (l_max); take at most {' or '.join(limits)}, or a "
            f"model of longer context"
        )
    return needed


class ContextWriter:
    """Writes contexts of one length.

    Args:
        train: what demonstrations are read from.
        settings: what a context consists of.
        length: S, at least what `longest_context` says.
    """

    def __init__(self, train: Examples, settings: InContextConfig, length: int) -> None:
        self.train = train
        self.settings = settings
        self.length = length

    def write(self, query: Tokens, label: int, demonstrations: Sequence[int]) -> Context:
        """Return the context of a query.

        Args:
            query: its tokens, uint8 [L].
            label: the index of its class, which is in the targets alone.
            demonstrations: indices of examples of train, in the order in which they are shown.
        """
        between = [SEP] if self.settings.separator else []
        inputs = np.full(self.length, PAD, dtype=np.uint8)
        targets = np.full(self.length, IGNORE_INDEX, dtype=np.int64)
        end = self.settings.soft_tokens
        shown = [(self.train.read(i), LETTERS[self.train.labels[i]]) for i in demonstrations]
        for tokens, letter in shown:
            part = [*between, letter]
            inputs[end : end + len(tokens) + len(part)] = np.concatenate([tokens, part])
            end += len(tokens) + len(part)
            if self.settings.all_answers:
                targets[end - 2] = letter
        inputs[end : end + len(query) + len(between)] = np.concatenate([query, between])
        answer = end + len(query) + len(between) - 1
        targets[answer] = LETTERS[label]
        return Context(inputs, targets, answer)
