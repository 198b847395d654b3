"""The next base is drawn with the probabilities that were asked for, from random numbers of the sequence's own."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist import UserError
from hyena_dist.generation.sampling import Sampling, draw, uniforms

ROWS = st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=4).map(np.array)
LOGITS = np.log([[0.1, 0.4, 0.2, 0.3]])


@given(logits=ROWS, temperature=st.floats(0.01, 10))
def test_temperature_divides_the_logits(logits: Any, temperature: float) -> None:
    p = Sampling(temperature).probabilities(logits)
    np.testing.assert_allclose(p.sum(1), 1)
    above = p.max(1, keepdims=True)
    expected = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    np.testing.assert_allclose(p / above, expected, rtol=1e-9)


@given(logits=ROWS, temperature=st.floats(0, 10), top_k=st.integers(1, 4), top_p=st.floats(0.01, 1))
def test_only_the_likeliest_are_kept_and_in_proportion(
    logits: Any, temperature: float, top_k: int, top_p: float
) -> None:
    everything = Sampling(temperature).probabilities(logits)
    p = Sampling(temperature, top_k, top_p).probabilities(logits)
    for kept, whole in zip(p, everything, strict=True):
        chosen = kept > 0
        assert 1 <= chosen.sum() <= top_k
        assert whole[chosen].min() >= whole[~chosen].max(initial=0)
        assert chosen.sum() == min(top_k, (whole > 0).sum()) or whole[chosen].sum() >= top_p - 1e-9
        np.testing.assert_allclose(kept[chosen], whole[chosen] / whole[chosen].sum())


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9]),
    ],
)
def test_examples(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(sampling.probabilities(LOGITS)[0], expected, atol=1e-12)


@pytest.mark.parametrize("temperature", [0, 1e-300, 1.0])
def test_what_is_not_allowed_has_no_probability(temperature: float) -> None:
    allowed = np.array([[True, False, True, False]])
    p = Sampling(temperature).probabilities(LOGITS, allowed)[0]
    assert p[1] == p[3] == 0
    assert p[2] == pytest.approx(1 if temperature < 1 else 2 / 3)


def test_bases_come_as_often_as_their_probability_says() -> None:
    p = np.array([[0.1, 0.0, 0.6, 0.3]])
    numbers = uniforms(0, 0, 0, 20_000)
    found = Counter(draw(np.repeat(p, len(numbers), 0), numbers).tolist())
    assert [found[base] / len(numbers) for base in range(4)] == pytest.approx(p[0], abs=0.015)
    assert draw(p, np.array([0.0])) == 0
    assert draw(p, np.array([np.nextafter(1, 0)])) == 3


def test_random_numbers_belong_to_seed_prompt_and_number() -> None:
    first = uniforms(7, 1, 2, 100)
    assert np.array_equal(uniforms(7, 1, 2, 50), first[:50])
    for other in ((8, 1, 2), (7, 0, 2), (7, 1, 3)):
        assert not np.isin(uniforms(*other, 100), first).any()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"temperature": -1.0}, "temperature -1.0 is not a number from 0 on"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 0}, "top_k 0 is not one of 1 to 4"),
        ({"top_k": 5}, "top_k 5"),
        ({"top_p": 0.0}, "top_p 0.0 is not over 0 and at most 1"),
        ({"top_p": 1.1}, "top_p 1.1"),
    ],
)
def test_numbers_out_of_range_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Sampling(**fields)
