"""Contexts: what stands where, what is learned, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.data.tokenizer import PAD, SEP, A, C, G, T
from hyena_dist.tasks.in_context.contexts import ContextWriter, check_classes, longest_context
from tests.configs import refusal
from tests.unit.tasks.in_context.examples import labelled

DATA = labelled()
TRAIN = DATA.splits["train"]
QUERY = np.array([G, T, T], dtype=np.uint8)


def settings(**fields: object) -> InContextConfig:
    return InContextConfig.model_validate({"method": "instruction"} | fields)


def test_demonstrations_then_the_query_then_padding() -> None:
    context = ContextWriter(TRAIN, settings(shots=2), 40).write(QUERY, 1, [3, 0])
    expected = [*TRAIN.read(3), SEP, C, *TRAIN.read(0), SEP, A, *QUERY, SEP]
    assert context.inputs.tolist() == expected + [PAD] * (40 - len(expected))
    assert context.answer == len(expected) - 1
    assert np.flatnonzero(context.targets >= 0).tolist() == [context.answer], "the query's answer alone"
    assert context.targets[context.answer] == C


def test_all_answers_are_those_that_the_context_shows() -> None:
    context = ContextWriter(TRAIN, settings(shots=2, all_answers=True), 40).write(QUERY, 0, [3, 0])
    learned = np.flatnonzero(context.targets >= 0)
    assert len(learned) == 3
    assert set(context.inputs[learned]) == {SEP}
    assert context.inputs[learned[:2] + 1].tolist() == context.targets[learned[:2]].tolist() == [C, A]


def test_without_a_separator_the_last_base_is_answered() -> None:
    context = ContextWriter(TRAIN, settings(shots=1, separator=False, all_answers=True), 40).write(QUERY, 0, [1])
    expected = [*TRAIN.read(1), C, *QUERY]
    assert context.inputs[: len(expected)].tolist() == expected
    assert np.flatnonzero(context.targets >= 0).tolist() == [len(TRAIN.read(1)) - 1, context.answer]
    assert context.inputs[context.answer] == T


def test_soft_tokens_have_their_places() -> None:
    chosen = settings(method="soft_prompt", prompt_tokens=5)
    context = ContextWriter(TRAIN, chosen, 12).write(QUERY, 0, [])
    assert context.inputs.tolist() == [PAD] * 5 + [*QUERY, SEP] + [PAD] * 3


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, 9 + 1),
        ({"separator": False}, 9),
        ({"shots": 2}, 2 * (9 + 2) + 10),
        ({"method": "soft_prompt", "prompt_tokens": 6}, 6 + 10),
        ({"method": "soft_prompt", "prompt_tokens": 6, "shots": 1, "separator": False}, 6 + 10 + 9),
        ({"prompt_tokens": 6}, 9 + 1),
    ],
)
def test_the_longest_context(fields: dict[str, object], needed: int) -> None:
    """The bound is met by a context of the longest sequences, and by the model's l_max exactly."""
    chosen = settings(**fields)
    assert longest_context(DATA, chosen, l_max=needed) == needed
    longest = ContextWriter(TRAIN, chosen, needed).write(TRAIN.read(0), 0, [0] * chosen.shots)
    assert longest.answer == needed - 1
    message = refusal(lambda: longest_context(DATA, chosen, l_max=needed - 1))
    assert f"up to {needed} positions" in message
    assert f"the model has {needed - 1} " in message


def test_the_refusal_says_what_fits() -> None:
    chosen = settings(method="soft_prompt", prompt_tokens=100, shots=1)
    message = refusal(lambda: longest_context(DATA, chosen, l_max=64))
    assert "take at most 0 shots or 43 prompt_tokens" in message
    assert longest_context(DATA, settings(method="soft_prompt", prompt_tokens=43, shots=1), l_max=64) == 64


def test_labels_that_no_letter_stands_for() -> None:
    check_classes(labelled(classes=5))
    assert "6" in refusal(lambda: check_classes(labelled(classes=6)))
    assert "A, C, G, T, N stand for 2 to 5 classes" in refusal(lambda: check_classes(labelled(classes=1)))
    assert "multi_label" in refusal(lambda: check_classes(replace(DATA, kind="multi_label")))
