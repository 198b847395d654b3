"""Contexts: what stands where, what is learned, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.data.tokenizer import PAD, SEP, A, C, reverse_complement
from hyena_dist.tasks.in_context.contexts import Context, ContextWriter, check_classes, check_length, longest_context
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from tests.configs import refusal
from tests.unit.tasks.in_context.examples import labelled

DATA = labelled()
TRAIN = DATA.splits["train"]
TEST = DATA.splits["test"]


def settings(**fields: object) -> InContextConfig:
    return InContextConfig.model_validate({"method": "instruction"} | fields)


def writer(chosen: InContextConfig) -> ContextWriter:
    return ContextWriter(DATA, chosen, Demonstrations(TRAIN.labels, DATA.classes, chosen.shots), seed=3)


def written(query: int, shown: list[int], length: int = 40, reverse: bool = False, **fields: object) -> Context:
    return writer(settings(**fields)).write(TEST, query, shown, reverse, length)


def test_demonstrations_then_the_query_then_padding() -> None:
    context = written(5, [3, 0], shots=2)
    expected = [*TRAIN.read(3), SEP, C, *TRAIN.read(0), SEP, A, *TEST.read(5), SEP]
    assert context.inputs.tolist() == expected + [PAD] * (40 - len(expected))
    assert context.answer == len(expected) - 1
    assert np.flatnonzero(context.targets >= 0).tolist() == [context.answer], "the query's answer alone"
    assert context.targets[context.answer] == C


def test_all_answers_are_those_that_the_context_shows() -> None:
    context = written(4, [3, 0], shots=2, all_answers=True)
    learned = np.flatnonzero(context.targets >= 0)
    assert len(learned) == 3
    assert set(context.inputs[learned]) == {SEP}
    assert context.inputs[learned[:2] + 1].tolist() == context.targets[learned[:2]].tolist() == [C, A]


def test_without_a_separator_the_last_base_is_answered() -> None:
    context = written(4, [1], shots=1, separator=False, all_answers=True)
    expected = [*TRAIN.read(1), C, *TEST.read(4)]
    assert context.inputs[: len(expected)].tolist() == expected
    assert np.flatnonzero(context.targets >= 0).tolist() == [len(TRAIN.read(1)) - 1, context.answer]
    assert context.inputs[context.answer] == TEST.read(4)[-1]


def test_soft_tokens_have_their_places() -> None:
    context = written(2, [], method="soft_prompt", prompt_tokens=5)
    assert context.inputs[:5].tolist() == [PAD] * 5
    assert context.inputs[5 : context.answer + 1].tolist() == [*TEST.read(2), SEP]


def test_all_sequences_of_a_context_are_of_one_strand() -> None:
    context = written(2, [3], shots=1, reverse=True)
    expected = [*reverse_complement(TRAIN.read(3)), SEP, C, *reverse_complement(TEST.read(2)), SEP]
    assert context.inputs[: len(expected)].tolist() == expected


def test_demonstrations_are_drawn_for_each_place_and_ever_the_same_where_held_out() -> None:
    write = writer(settings(shots=2))
    contexts = {write.of_train(0, (step, i), False, 40).inputs.tobytes() for step in range(3) for i in range(3)}
    assert len(contexts) > 6
    for split in ("valid", "test"):
        first, again = (write.held_out(split, 1, False, 40) for _ in range(2))
        assert first.inputs.tobytes() == again.inputs.tobytes()
    first_shown = [write.of_train(0, (0, i), False, 40).inputs[:9].tolist() for i in range(100)]
    assert TRAIN.read(0).tolist() not in first_shown, "a query is never its own demonstration"


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
    assert longest_context(DATA, chosen) == needed
    check_length(DATA, chosen, needed, "l_max")
    assert writer(chosen).write(TEST, 0, [0] * chosen.shots, False, needed).answer == needed - 1
    message = refusal(lambda: check_length(DATA, chosen, needed - 1, "the model's l_max"))
    assert f"up to {needed} positions, and the model's l_max is {needed - 1};" in message


def test_the_refusal_says_what_fits() -> None:
    chosen = settings(method="soft_prompt", prompt_tokens=100, shots=1)
    message = refusal(lambda: check_length(DATA, chosen, 64, "the model's l_max"))
    assert "take at most 0 shots or 43 prompt_tokens" in message
    assert longest_context(DATA, settings(method="soft_prompt", prompt_tokens=43, shots=1)) == 64


def test_labels_that_no_letter_stands_for() -> None:
    check_classes(labelled(classes=5))
    assert "6" in refusal(lambda: check_classes(labelled(classes=6)))
    assert "A, C, G, T, N stand for 2 to 5 classes" in refusal(lambda: check_classes(labelled(classes=1)))
    assert "multi_label" in refusal(lambda: check_classes(replace(DATA, kind="multi_label")))
