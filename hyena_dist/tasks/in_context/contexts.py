"""Contexts as tokens: soft tokens' places, demonstrations with their letters, and a query that waits for its letter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.data.tokenizer import PAD, SEP, TOKENS, A, C, G, N, T, Tokens, reverse_complement
from hyena_dist.errors import UserError
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from hyena_dist.tasks.labelled import SPLITS, Examples, LabelledData

LETTERS = (A, C, G, T, N)
"""The token that stands for each class, in the order of the classes."""

_TRAINING, _HELD_OUT = range(2)
"""What demonstrations are drawn for, so that no numbers serve two purposes."""


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


def longest_context(data: LabelledData, settings: InContextConfig) -> int:
    """Return the most positions that a context of these examples can take."""
    query, demonstration = _parts(data, settings)
    return settings.soft_tokens + settings.shots * demonstration + query


def check_length(data: LabelledData, settings: InContextConfig, length: int, what: str) -> None:
    """Refuse contexts that a model or a stage of the curriculum has no room for.

    Raises:
        UserError: a context can be longer; the sentence names `what` is too short, and what would fit.
    """
    needed = longest_context(data, settings)
    if needed > length:
        query, demonstration = _parts(data, settings)
        room = length - query
        limits = [f"{max(0, room - settings.soft_tokens) // demonstration} shots"]
        if settings.soft_tokens:
            limits.append(f"{max(0, room - settings.shots * demonstration)} prompt_tokens")
        raise UserError(
            f"a context of {settings.soft_tokens} soft tokens, {settings.shots} demonstrations and a query takes up "
            f"to {needed:,} positions, and {what} is {length:,}; take at most {' or '.join(limits)}, or a longer one"
        )


def _parts(data: LabelledData, settings: InContextConfig) -> tuple[int, int]:
    """Return the most positions of a query and of a demonstration."""
    between = int(settings.separator)
    query = max(int(split.lengths.max()) for split in data.splits.values() if len(split)) + between
    return query, int(data.splits["train"].lengths.max()) + between + 1


@dataclass(frozen=True)
class ContextWriter:
    """Writes contexts, the demonstrations of which are drawn for each."""

    data: LabelledData
    settings: InContextConfig
    demonstrations: Demonstrations
    seed: int

    def of_train(self, query: int, place: tuple[int, int], reverse: bool, length: int) -> Context:
        """Return the context of an example of train.

        Args:
            query: the index of the example.
            place: its step, and its number in the step; other places have other demonstrations.
            reverse: whether all sequences are read from the other strand.
            length: S.
        """
        train = self.data.splits["train"]
        shown = self.demonstrations.draw(self.seed, _TRAINING, *place, query=query)
        return self.write(train, query, shown, reverse, length)

    def held_out(self, split: str, query: int, reverse: bool, length: int) -> Context:
        """Return the context of an example of a split, whose demonstrations are of train and ever the same."""
        shown = self.demonstrations.draw(self.seed, _HELD_OUT, list(SPLITS).index(split), query)
        return self.write(self.data.splits[split], query, shown, reverse, length)

    def write(self, examples: Examples, query: int, shown: Sequence[int], reverse: bool, length: int) -> Context:
        """Return the context of an example of a split.

        Args:
            examples: the split.
            query: the index of the example, whose label is in the targets alone.
            shown: indices of examples of train, in the order in which they are shown.
            reverse: whether all sequences are read from the other strand.
            length: S.
        """
        train, between = self.data.splits["train"], [SEP] if self.settings.separator else []
        inputs = np.full(length, PAD, dtype=np.uint8)
        targets = np.full(length, IGNORE_INDEX, dtype=np.int64)
        end = self.settings.soft_tokens
        for index in shown:
            letter = LETTERS[train.labels[index]]
            end = _put(inputs, end, _read(train, index, reverse), [*between, letter])
            if self.settings.all_answers:
                targets[end - 2] = letter
        end = _put(inputs, end, _read(examples, query, reverse), between)
        targets[end - 1] = LETTERS[examples.labels[query]]
        return Context(inputs, targets, end - 1)


def _read(examples: Examples, index: int, reverse: bool) -> Tokens:
    tokens = examples.read(index)
    return reverse_complement(tokens) if reverse else tokens


def _put(inputs: Tokens, start: int, sequence: Tokens, following: Sequence[int]) -> int:
    """Put a sequence and tokens that follow it into a context; returns where they end."""
    end = start + len(sequence)
    inputs[start:end] = sequence
    inputs[end : end + len(following)] = following
    return end + len(following)
