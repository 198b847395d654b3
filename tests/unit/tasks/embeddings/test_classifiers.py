"""Classifiers: settings are chosen inside train, and XGBoost may be missing."""

import sys

import numpy as np
import pytest

from hyena_dist.errors import UserError
from hyena_dist.tasks.embeddings.classifiers import MANY, check_classifiers, fit, in_words


def test_the_penalty_is_strong_where_features_are_noise_but_one() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = random.normal(size=(60, 200)).astype(np.float32)
    noise[:, 0] += 3 * labels
    clear = noise[:, :1]
    strong, weak = (fit("logistic", features, labels).settings["logisticregression__C"] for features in (noise, clear))
    assert strong < weak or strong == 1e-3


@pytest.mark.parametrize("small", [10, 30])
def test_weights_are_tried_where_classes_are_unequal_alone(small: int) -> None:
    labels = np.repeat([0, 1], [50, small])
    features = np.random.default_rng(0).normal(size=(len(labels), 2)).astype(np.float32)
    assert ("logisticregression__class_weight" in fit("logistic", features, labels).settings) == (small == 10)


def test_many_rows_are_fitted_in_seconds_and_well() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, MANY)
    features = random.normal(size=(MANY, 3)).astype(np.float32)
    features[:, 0] += 3 * labels
    found = fit("logistic", features, labels)
    assert found.score == pytest.approx(0.933, abs=0.01)  # of the best possible: Phi(1.5)
    assert (found.classifier.predict(features) == labels).mean() == pytest.approx(0.933, abs=0.01)


def test_trees_of_scikit_learn_take_the_place_of_xgboost(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xgboost")
    labels = np.arange(120) % 3
    features = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    features[:, 1] = np.abs(features[:, 1]) + 2 * (labels == 1)  # what a tree tells and a line of the other does not
    for absent in (False, True):
        if absent:
            monkeypatch.setitem(sys.modules, "xgboost", None)
        found = fit("trees", features, labels)
        assert type(found.classifier).__name__ == ("HistGradientBoostingClassifier" if absent else "XGBClassifier")
        assert ("XGBoost is not installed" in in_words("trees")) == absent
        assert found.score > 0.45


def test_another_classifier_is_refused() -> None:
    with pytest.raises(UserError, match="'forest' is no classifier; give logistic or trees"):
        check_classifiers(["trees", "forest"])
    with pytest.raises(UserError, match="no classifier is given"):
        check_classifiers([])
