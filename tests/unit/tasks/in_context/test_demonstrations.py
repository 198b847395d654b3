"""Demonstrations: a function of the context's numbers, classes in turn, never the query."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from tests.configs import refusal


@given(shots=st.integers(0, 8), classes=st.integers(2, 4), context=st.lists(st.integers(0, 2**63), min_size=1))
def test_classes_take_turns_and_the_query_is_none(shots: int, classes: int, context: list[int]) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), 7))
    draw = Demonstrations(labels, tuple("abcd"[:classes]), shots).draw
    query = context[0] % len(labels)
    chosen = draw(*context, query=query)
    assert chosen == draw(*context, query=query)
    assert len(set(chosen)) == shots
    assert query not in chosen
    counts = np.bincount(labels[chosen], minlength=classes) if chosen else np.zeros(classes)
    assert counts.max() - counts.min() <= 1


def test_other_contexts_see_other_examples() -> None:
    draw = Demonstrations(np.arange(1000) % 2, ("a", "b"), 2).draw
    seen = {tuple(draw(0, step, sample)) for step in range(10) for sample in range(10)}
    assert len(seen) == 100
    assert {order[0] % 2 for order in seen} == {0, 1}, "either class comes first"


def test_every_example_is_shown_as_often_as_others_of_its_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    draw = Demonstrations(labels, ("a", "b"), 2).draw
    counts = np.bincount([i for n in range(3000) for i in draw(n)], minlength=6)
    assert counts == pytest.approx(np.array([750] * 4 + [1500] * 2), rel=0.15)


def test_too_few_examples_are_refused() -> None:
    labels = np.array([0, 0, 0, 1])
    message = refusal(lambda: Demonstrations(labels, ("few", "rare"), 2))
    assert "'rare'" in message
    assert "train has 1" in message
    assert "task.in_context.shots" in message
    Demonstrations(labels, ("few", "rare"), 0)
