"""Logistic regression and gradient-boosted trees of features, their settings chosen inside what is trained on."""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.tasks.embeddings.features import Features

CLASSIFIERS = ("logistic", "trees")
INNER_FOLDS = 3
MANY = 20_000
"""Rows from which on a fifth of them chooses the settings, in place of folds: it tells as much in a third of the time.
"""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The values of logistic regression's C, the inverse of its penalty, that are tried."""
_UNEQUAL = 2  # times that the largest class has of the smallest, from which on weights that make them equal are tried


class Fitted(NamedTuple):
    """A classifier and how well it did inside its training set."""

    classifier: Any
    score: float
    """Macro F1 of the best settings over the inner folds, by which classifiers are compared before the test."""
    settings: Mapping[str, Any]


def has_xgboost() -> bool:
    """Return whether XGBoost is installed; else scikit-learn's trees take its place."""
    return importlib.util.find_spec("xgboost") is not None


def in_words(classifier: str) -> str:
    """Return what a classifier is, as reports say it."""
    if classifier == "logistic":
        return "logistic regression"
    return "XGBoost" if has_xgboost() else "gradient-boosted trees of scikit-learn, since XGBoost is not installed"


def check_classifiers(wanted: Sequence[str]) -> None:
    """Refuse classifiers that there are not.

    Raises:
        UserError: none is given, or one that is not of CLASSIFIERS.
    """
    if not wanted or (unknown := set(wanted) - set(CLASSIFIERS)):
        what = f"{min(unknown)!r} is no classifier" if wanted else "no classifier is given"
        raise UserError(f"{what}; give {' or '.join(CLASSIFIERS)}, or both")


def fit(classifier: str, features: Features, labels: NDArray[np.int64], seed: int = 0) -> Fitted:
    """Fit a classifier with the settings that do best over inner folds of the same rows.

    Args:
        classifier: one of CLASSIFIERS.
        features: [N, F].
        labels: classes from 0 on without a gap, [N].
        seed: draws the folds and the trees' subsets.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit

    estimator, grid = _logistic(labels) if classifier == "logistic" else _trees(seed)
    if len(labels) < MANY:
        folds = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed)
    else:
        folds = StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
    search = GridSearchCV(estimator, grid, scoring="f1_macro", cv=folds, error_score="raise")
    with warnings.catch_warnings():
        # A weak penalty takes many steps to its end; where that is worth it, the inner folds would choose it anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(features, labels)
    return Fitted(search.best_estimator_, float(search.best_score_), search.best_params_)


def _logistic(labels: NDArray[np.int64]) -> tuple[Any, dict[str, Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    grid: dict[str, Any] = {"logisticregression__C": list(STRENGTHS)}
    counts = np.bincount(labels)
    if counts.max() > _UNEQUAL * counts.min():
        grid["logisticregression__class_weight"] = [None, "balanced"]
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), grid


def _trees(seed: int) -> tuple[Any, dict[str, Any]]:
    if not has_xgboost():
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_depth=4, max_features=0.3, random_state=seed), {}
    from xgboost import XGBClassifier

    trees = XGBClassifier(
        n_estimators=200,
        max_depth=4,
        learning_rate=0.1,
        subsample=0.8,
        colsample_bytree=0.3,
        tree_method="hist",
        random_state=seed,
        n_jobs=1,
    )
    return trees, {}
