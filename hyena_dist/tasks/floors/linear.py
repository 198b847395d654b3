"""Logistic regression, or ridge regression of numbers, on standardised features; valid chooses the penalty.

Shapes: N examples, F features, C classes or targets.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.labelled import Kind

_STRENGTHS = (1.0, 10.0, 1e2, 1e3, 1e4, 1e5)
"""What the mean loss of train weighs beside the penalty, half of the squared weights; tried upwards until valid gets
worse."""


class Fold(NamedTuple):
    """Features of a split and its labels."""

    features: NDArray[np.float32]
    """Numbers that describe examples, [N, F]."""
    labels: NDArray[Any]
    """The labels, in the form of Examples.labels."""

    def column(self, c: int) -> "Fold":
        """Return one label or target, of the examples of which it is known."""
        known = ~np.isnan(self.labels[:, c])
        return Fold(self.features[known], self.labels[known, c])


def linear_scores(
    kind: Kind, classes: int, train: Fold, valid: Fold, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Fit on train, choose the penalty on valid and return scores of other examples, as in Predictions.scores, [N, C].

    Args:
        kind: single_label, or multi_label and regression, of which each label or target has a fit of its own.
        classes: number of classes, labels or targets.
        train: what is fitted.
        valid: what the penalty is chosen by.
        features: those of the examples to predict.
    """
    centre, scale = train.features.mean(0), train.features.std(0)
    scale[scale < 1e-8] = 1
    train, valid = (Fold((fold.features - centre) / scale, fold.labels) for fold in (train, valid))
    features = (features - centre) / scale
    if kind == "single_label":
        return _probabilities(train, valid, features, classes)
    columns = [(train.column(c), valid.column(c)) for c in range(classes)]
    if kind == "multi_label":
        found = [
            _probabilities(Fold(t.features, t.labels.astype(int)), Fold(v.features, v.labels.astype(int)), features, 2)
            for t, v in columns
        ]
        return np.stack([each[:, 1] for each in found], axis=1)
    return np.stack([_numbers(t, v, features) for t, v in columns], axis=1)


def _probabilities(train: Fold, valid: Fold, features: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """Return the probability of each class, 0 of those that train lacks; [N, C]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(train.labels)
    scores = np.zeros((len(features), classes), dtype=np.float32)
    if len(known) < 2:
        scores[:, known] = 1
        return scores
    model = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3)
    judged = Fold(valid.features[np.isin(valid.labels, known)], valid.labels[np.isin(valid.labels, known)])
    best = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is cut short is one more way to be smooth
        for strength in _STRENGTHS:
            model.set_params(C=strength / len(train.labels)).fit(train.features, train.labels)
            right = np.searchsorted(known, judged.labels)
            surprise = -np.log(model.predict_proba(judged.features)[np.arange(len(right)), right] + 1e-12).sum()
            if surprise >= best:
                break
            best = surprise
            scores[:, known] = model.predict_proba(features)
    return scores


def _numbers(train: Fold, valid: Fold, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the number that ridge regression gives each example, [N]."""
    from sklearn.linear_model import Ridge

    best, scores = np.inf, np.zeros(len(features), dtype=np.float32)
    for strength in _STRENGTHS:
        model = Ridge(alpha=len(train.labels) / strength).fit(train.features, train.labels)
        error = ((model.predict(valid.features) - valid.labels) ** 2).sum()
        if error >= best:
            break
        best, scores = error, model.predict(features).astype(np.float32)
    return scores
