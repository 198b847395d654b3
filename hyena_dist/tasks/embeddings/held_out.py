"""Predictions for sequences that the classifier has not seen: of a test split, or of all, fold by fold.

Shapes: N sequences, C classes, F features.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError
from hyena_dist.tasks.embeddings.classifiers import INNER_FOLDS, fit
from hyena_dist.tasks.embeddings.features import Features
from hyena_dist.tasks.labelled import Examples, LabelledData
from hyena_dist.tasks.strands import strand_hash

Rows = NDArray[np.int64]


class Plan(NamedTuple):
    """All sequences of a set in one row of examples, and which of them are trained on to predict which others."""

    examples: Examples
    folds: tuple[tuple[Rows, Rows], ...]
    """Ascending rows of train and test, each fold's; no row is tested twice."""

    @property
    def tested(self) -> Rows:
        """Ascending rows that some fold predicts."""
        return np.sort(np.concatenate([test for _, test in self.folds]))


class Outcome(NamedTuple):
    """The predictions of a classifier of one kind of features."""

    scores: NDArray[np.float32]
    """Probabilities of the classes for the rows `tested`, [N, C]."""
    inner: tuple[float, ...]
    """Macro F1 over the inner folds of each fold's training set."""
    settings: tuple[dict[str, Any], ...]
    """The settings that were chosen in each fold."""


def plan(data: LabelledData, folds: int | None, max_bases: int | None = None, seed: int = 0) -> Plan:
    """Return which sequences are predicted from which: test from train and valid, or all in stratified folds.

    Args:
        data: classes, one of each sequence.
        folds: the number of folds that all splits together are dealt to; if not given, the splits are kept.
        max_bases: how many bases of each sequence are read, from its start; all if not given.
        seed: draws the folds.

    Raises:
        UserError: another kind of labels, fewer than two classes, or a class that is too small for the folds.
    """
    if data.kind != "single_label":
        raise UserError(
            f"the labels are {data.kind.replace('_', ' ')}, and a probe tells one class of each; give one column "
            f"of classes, or use finetune"
        )
    parts = list(data.splits.values())
    examples = _together(parts, max_bases)
    named = np.repeat(list(data.splits), [len(part) for part in parts])
    if len(data.classes) < 2:
        raise UserError("the set has one class alone; give sequences of two classes or more")
    if folds is None:
        if "test" not in data.splits:
            raise UserError("the set has no test split; give one, or ask for cross-validation with --folds 5")
        pairs = [(np.flatnonzero(named != "test"), np.flatnonzero(named == "test"))]
    else:
        pairs = list(_dealt(examples, folds, seed))
    for train, _ in pairs:
        _check_classes(examples.labels[train], data.classes)
    return Plan(examples, tuple(pairs))


def predict(classifier: str, features: Features, planned: Plan, classes: int, seed: int = 0) -> Outcome:
    """Fit a classifier in each fold and return what it says of the sequences that it has not seen.

    Args:
        classifier: one of CLASSIFIERS.
        features: those of all examples, [N, F].
        planned: the folds.
        classes: the number of classes.
        seed: draws inner folds and the trees' subsets.
    """
    scores = np.zeros((len(features), classes), np.float32)
    inner, settings = [], []
    for train, test in planned.folds:
        fitted = fit(classifier, features[train], planned.examples.labels[train], seed)
        scores[test] = fitted.classifier.predict_proba(features[test])
        inner.append(fitted.score)
        settings.append(dict(fitted.settings))
    return Outcome(scores[planned.tested], tuple(inner), tuple(settings))


def best_inside(planned: Plan, outcomes: Sequence[Outcome]) -> Outcome:
    """Return in each fold what the outcome says that did best inside its training set, so that no test row chooses."""
    fold_of = np.empty(len(planned.examples), np.int64)
    for number, (_, test) in enumerate(planned.folds):
        fold_of[test] = number
    best = np.argmax([outcome.inner for outcome in outcomes], axis=0)  # [folds]
    chosen = best[fold_of[planned.tested]]
    scores = np.stack([outcome.scores for outcome in outcomes])[chosen, np.arange(len(chosen))]
    return Outcome(
        scores,
        tuple(outcomes[which].inner[fold] for fold, which in enumerate(best)),
        tuple(outcomes[which].settings[fold] for fold, which in enumerate(best)),
    )


def _together(parts: Sequence[Examples], max_bases: int | None) -> Examples:
    """Return the examples of all splits, one after the other, or the first bases of each."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    lengths = np.concatenate([part.lengths for part in parts])

    def read(number: int) -> Tokens:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[part].read(number - int(starts[part]))[:max_bases]

    return Examples(
        [name for part in parts for name in part.names],
        lengths if max_bases is None else np.minimum(lengths, max_bases),
        np.concatenate([part.labels for part in parts]),
        read,
    )


def _dealt(examples: Examples, folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield train and test of each fold: classes in equal shares, a sequence and its copies on either strand in one."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = np.bincount(examples.labels).min()
    if fewest < folds:
        raise UserError(
            f"{folds} folds need {folds} sequences of each class and the smallest has {fewest}; ask for fewer folds, "
            f"or leave the class out"
        )
    copies = [strand_hash(examples.read(number)) for number in range(len(examples))]
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    yield from dealer.split(np.zeros(len(copies)), examples.labels, np.array(copies, np.uint64))


def _check_classes(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Refuse a training set in which a class is missing or too small for the inner folds.

    Raises:
        UserError: There is such a class.
    """
    trained = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, trained, strict=True):
        if count < INNER_FOLDS:
            raise UserError(
                f"class {name!r} has {count} sequences to train on and the choice of settings takes {INNER_FOLDS}; "
                f"give more of it, or leave it out"
            )
