"""Intervals have the width that theory gives them, and differences are claimed where there are some alone."""

from dataclasses import replace

import numpy as np
import pytest

from hyena_dist.tasks.bootstrap import Interval, interval_of, paired_difference, resample
from hyena_dist.tasks.metrics import measure, metrics
from hyena_dist.tasks.predictions import Predictions
from tests.unit.tasks.predicted import predicted


def right_at(share: np.ndarray, sharpness: float = 0.8) -> Predictions:
    """Two classes, the first of which is true everywhere and predicted where `share` is true."""
    score = np.where(share, sharpness, 1 - sharpness)
    names = [str(i) for i in range(len(share))]
    scores = np.stack([score, 1 - score], 1).astype(np.float32)
    return Predictions("single_label", ("a", "b"), names, np.zeros(len(share), dtype=np.int64), scores)


def test_an_interval_is_as_wide_as_the_binomial_says() -> None:
    share = np.arange(400) < 320
    _, low, high = interval_of(0.8, resample(right_at(share), draws=4000)["accuracy"])
    error = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert (low, high) == pytest.approx((0.8 - error, 0.8 + error), abs=0.005)


def test_the_bases_of_a_sequence_are_drawn_together() -> None:
    # Each sequence is right everywhere or nowhere, so that 25 sequences of 40 bases tell as much as 25 bases.
    predictions = right_at(np.repeat(np.arange(25) < 20, 40))
    by_sequence = replace(
        predictions, kind="per_base", names=[str(i) for i in range(25)], lengths=np.full(25, 40, dtype=np.int64)
    )
    _, low, high = interval_of(0.8, resample(by_sequence, draws=4000)["accuracy"])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 25), abs=0.05)


def test_measure_is_repeatable_and_holds_the_metrics() -> None:
    predictions = predicted("single_label", 200, 3)
    found = measure(predictions, draws=200)
    assert found == measure(predictions, draws=200)
    assert {name: interval.value for name, interval in found.items()} == metrics(predictions)
    assert all(interval.low <= interval.value <= interval.high for interval in found.values())


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = predicted("regression", 100, 1)
    monkeypatch.setattr("hyena_dist.tasks.bootstrap._BLOCK", 100)
    one_by_one = resample(predictions, draws=500)
    monkeypatch.undo()
    for name, values in resample(predictions, draws=500).items():
        assert one_by_one[name].shape == values.shape == (500,)
        assert interval_of(0, one_by_one[name]) == pytest.approx(interval_of(0, values), abs=0.1)


def test_of_very_many_rows_there_are_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dist.tasks.bootstrap._MOST_WORK", 100 * 3 * 60)
    assert len(resample(predicted("single_label", 100, 3))["mcc"]) == 60
    assert len(resample(predicted("single_label", 300, 3))["mcc"]) == 50


def test_a_difference_between_seeds_widens_the_interval() -> None:
    random = np.random.default_rng(0)
    share = random.random(2000) < 0.7
    gain = [share | (random.random(2000) < more) for more in (0.1, 0.1, 0.1)]
    uneven = [share | (random.random(2000) < more) for more in (0.0, 0.0, 0.6)]
    first = [right_at(share)] * 3
    even = paired_difference(first, [right_at(each) for each in gain])["accuracy"]
    wide = paired_difference(first, [right_at(each) for each in uneven])["accuracy"]
    assert even.value == pytest.approx(0.03, abs=0.01)
    assert even.excludes_zero
    assert wide.value > even.value
    assert not wide.excludes_zero


def test_paired_differences_are_surer_than_two_intervals() -> None:
    random = np.random.default_rng(0)
    share = random.random(600) < 0.7
    better = share | (random.random(600) < 0.05)
    apart = [measure(right_at(each))["accuracy"] for each in (share, better)]
    assert apart[0].high > apart[1].low
    assert paired_difference([right_at(share)], [right_at(better)])["accuracy"].excludes_zero


def test_differences_need_the_same_examples() -> None:
    first, second = right_at(np.ones(5, bool)), right_at(np.ones(6, bool))
    with pytest.raises(ValueError, match="same examples"):
        paired_difference([first], [second])


def test_an_undefined_interval_claims_nothing() -> None:
    assert not Interval(float("nan"), float("nan"), float("nan")).excludes_zero
