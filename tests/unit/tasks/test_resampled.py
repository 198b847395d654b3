"""Metrics of resamples are those that torchmetrics finds for rows that are repeated in truth."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyena_dist.tasks.labelled import Kind
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.resampled import METRICS, areas
from tests.unit.tasks.predicted import predicted

KINDS: tuple[Kind, ...] = ("single_label", "multi_label", "regression", "per_base")


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 30), st.integers(2, 4), st.integers(0, 999), st.sampled_from([None, 2]))
@example("single_label", 1, 3, 0, None)
@example("multi_label", 1, 2, 0, 2)
def test_resamples_are_measured_as_torchmetrics_does(
    kind: Kind, examples: int, classes: int, seed: int, levels: int | None
) -> None:
    predictions = predicted(kind, examples, classes, seed, levels)
    drawn = np.random.default_rng(seed).integers(examples, size=(2, examples))
    times = np.stack([np.bincount(each, minlength=examples) for each in drawn], axis=1)
    found = METRICS[kind](
        predictions.labels, predictions.scores, times[predictions.example_of_row], predictions.classes
    )
    for draw, indices in enumerate(drawn):
        expected = metrics(predictions.take(indices))
        assert {name: values[draw] for name, values in found.items()} == pytest.approx(expected, abs=2e-5, nan_ok=True)


def test_equal_scores_count_half() -> None:
    truth = np.array([True, False, True, False])
    auroc, auprc = areas(truth, np.zeros(4), np.ones((4, 1), dtype=np.int32))
    assert (auroc[0], auprc[0]) == (0.5, 0.5)


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_one_class_has_no_curve(truth: list[bool]) -> None:
    auroc, auprc = areas(np.array(truth, bool), np.arange(len(truth)) / 2, np.ones((len(truth), 3), dtype=np.int32))
    assert np.isnan(auroc).all()
    assert np.isnan(auprc).all()
