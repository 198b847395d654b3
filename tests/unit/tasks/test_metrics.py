"""Metrics by kind, against scikit-learn and where they are not defined."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.predictions import Predictions
from tests.unit.tasks.predicted import names_of, predicted


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_as_scikit_learn_measures_them(classes: int) -> None:
    predictions = predicted("single_label", 300, classes)
    truth, taken = predictions.labels, predictions.scores.argmax(1)
    found = metrics(predictions)
    scores = predictions.scores[:, 1] if classes == 2 else predictions.scores
    one_hot = np.eye(classes)[truth]
    precise = (truth, scores) if classes == 2 else (one_hot, scores)
    assert {name: value for name, value in found.items() if "/" not in name} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, taken),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, taken),
            "mcc": sk.matthews_corrcoef(truth, taken),
            "f1": sk.f1_score(truth, taken, average="macro"),
            "auroc": sk.roc_auc_score(*precise),
            "auprc": sk.average_precision_score(*precise),
        },
        abs=1e-5,
    )
    by_class = sk.f1_score(truth, taken, average=None)
    assert [found[f"f1/{name}"] for name in names_of(classes)] == pytest.approx(by_class, abs=1e-6)


def test_a_majority_class_correlates_with_nothing() -> None:
    scores = np.tile(np.float32([0.6, 0.4]), (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    found = metrics(Predictions("single_label", ("a", "b"), ["x"] * 10, labels, scores))
    assert (found["accuracy"], found["mcc"], found["balanced_accuracy"], found["auroc"]) == (0.6, 0, 0.5, 0.5)


def test_a_class_that_test_lacks_is_left_out_of_means() -> None:
    predictions = predicted("single_label", 200, 3)
    kept = predictions.take(np.flatnonzero(predictions.labels != 2))
    found = metrics(kept)
    recall = sk.recall_score(kept.labels, kept.scores.argmax(1), labels=[0, 1], average=None)
    assert found["balanced_accuracy"] == pytest.approx(recall.mean())
    assert found["auroc"] == pytest.approx(
        np.mean([sk.roc_auc_score(kept.labels == c, kept.scores[:, c]) for c in (0, 1)]), abs=1e-6
    )


def test_labels_that_nobody_looked_for_are_left_out() -> None:
    predictions = predicted("multi_label", 300, 3)
    predictions.labels[:, 2] = 1  # nothing tells this label apart
    seen = ~np.isnan(predictions.labels)
    expected = [
        sk.roc_auc_score(predictions.labels[seen[:, c], c], predictions.scores[seen[:, c], c]) for c in range(2)
    ]
    found = metrics(predictions)
    assert found["auroc"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert [found["auroc/class0"], found["auroc/class1"]] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found["auroc/class2"])


def test_numbers_as_scikit_learn_measures_them() -> None:
    predictions = predicted("regression", 200, 2)
    found = metrics(predictions)
    truth, scores = predictions.labels[:, 1], predictions.scores[:, 1]
    assert found["r2/class1"] == pytest.approx(sk.r2_score(truth, scores), abs=1e-5)
    assert found["mse/class1"] == pytest.approx(sk.mean_squared_error(truth, scores), abs=1e-5)
    assert found["mse"] == pytest.approx((found["mse/class0"] + found["mse/class1"]) / 2)


def test_a_constant_has_no_correlation() -> None:
    labels = np.arange(5, dtype=np.float32)[:, None]
    found = metrics(Predictions("regression", ("y",), ["x"] * 5, labels, np.full((5, 1), 2, np.float32)))
    assert np.isnan(found["spearman"])
    assert (found["r2"], found["mse"]) == (0, 2)


def test_bases_without_a_label_are_left_out() -> None:
    predictions = predicted("per_base", 50, 3)
    known = predictions.labels >= 0
    expected = sk.accuracy_score(predictions.labels[known], predictions.scores[known].argmax(1))
    assert metrics(predictions)["accuracy"] == pytest.approx(expected)
