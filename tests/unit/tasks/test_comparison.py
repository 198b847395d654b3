"""The comparison of two ways, by pairs of seeds on the same examples, beside simple methods."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dist.tasks.comparison import compare
from hyena_dist.tasks.predictions import Predictions

LABELS = np.random.default_rng(0).integers(2, size=500)


def predictions(accuracy: float, seed: int) -> Predictions:
    """Predictions that are right for about a share of the examples: for the first ones, but for noise of the seed."""
    right: NDArray[np.bool_] = np.arange(500) < 500 * accuracy
    right ^= np.random.default_rng(seed).random(500) < 0.02
    scores = np.eye(2, dtype=np.float32)[np.where(right, LABELS, 1 - LABELS)]
    return Predictions("single_label", ("no", "yes"), [str(i) for i in range(500)], LABELS, scores)


def test_a_gain_and_floors() -> None:
    scratch = [predictions(0.7, seed) for seed in (1, 2, 3)]
    pretrained = [predictions(0.8, seed) for seed in (4, 5, 6)]
    floors = {"majority": predictions(0.5, 7), "kmer": predictions(0.79, 8)}
    found = compare(scratch, pretrained, floors, "accuracy")
    assert (found.examples, round(found.before, 1), round(found.after, 1)) == (500, 0.7, 0.8)
    assert found.gain.value == pytest.approx(found.after - found.before)
    assert 0.05 < found.gain.low < found.gain.value < found.gain.high < 0.15
    assert found.floors["majority"].margin.low > 0
    assert found.floors["kmer"].margin.low < 0 < found.floors["kmer"].margin.high
    assert not found.beaten


def test_the_second_way_is_held_against_the_floors_also_where_the_first_is_better() -> None:
    better, worse = ([predictions(share, seed) for seed in (1, 2)] for share in (0.8, 0.6))
    floors = {"kmer": predictions(0.7, 3)}
    assert compare(worse, better, floors, "accuracy").beaten
    found = compare(better, worse, floors, "accuracy")
    assert not found.beaten
    assert found.gain.high < 0
