"""Floors: simple methods are fitted on train and predict test."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.tasks.floors.cnn import cnn_scores
from hyena_dist.tasks.floors.constant import constant_scores, context_scores
from hyena_dist.tasks.floors.features import kmer_frequencies, middle_bases
from hyena_dist.tasks.floors.linear import Fold, linear_scores
from hyena_dist.tasks.labelled import Examples, Kind, LabelledData
from hyena_dist.tasks.predictions import Predictions

_MOST = 100_000
"""Examples of train that a floor learns from; of more, it takes that many by chance."""


class _Task(NamedTuple):
    kind: Kind
    classes: int
    train: Examples
    valid: Examples
    test: Examples
    seed: int


def run_floors(
    data: LabelledData,
    which: Sequence[str] = ("majority", "kmer"),
    cache: Path | None = None,
    seed: int = 0,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Predictions]:
    """Fit each method in `which` on train, choose on valid, and return its predictions of test by name.

    Args:
        data: with splits train and test; without valid, a tenth of train chooses settings.
        which: names in FLOORS.
        cache: folder of predictions of earlier calls, by fingerprint of the data: runs of other seeds find them there.
        seed: draws what is left to chance: the CNN's weights and batches, a valid split where there is none.
        say: called with a sentence before each method that takes time.

    Raises:
        UserError: there is no method of that name, or it says nothing of this kind of labels.
    """
    for name in which:
        check_floor(name, data.kind)
    found = {}
    digest = hashlib.sha256(data.fingerprint.encode()).hexdigest()[:16]
    for name in which:
        file = cache and cache / f"floor-{name}-{digest}.parquet"
        if file and file.exists():
            found[name] = Predictions.load(file)
            continue
        say(f"floor {name}: fitting it on train ...")
        found[name] = _predictions(data, FLOORS[name](_task(data, seed)))
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            found[name].save(file)
    return found


def check_floor(name: str, kind: Kind) -> None:
    """Check that a method says something of a kind of labels.

    Raises:
        UserError: it does not, or there is no such method.
    """
    if name not in FLOORS:
        raise UserError(f"floor {name!r} is none; choose of {', '.join(FLOORS)}")
    if kind == "per_base" and name in ("onehot", "cnn"):
        raise UserError(f"floor {name} is about whole sequences, and labels are per base; choose majority or kmer")


def _kmer(task: _Task) -> NDArray[np.float32]:
    if task.kind == "per_base":
        return context_scores(task.classes, task.train, task.test)
    return _linear(task, kmer_frequencies)


def _linear(task: _Task, features: Callable[[Examples], NDArray[np.float32]]) -> NDArray[np.float32]:
    train, valid = (Fold(features(split), split.labels) for split in (task.train, task.valid))
    return linear_scores(task.kind, task.classes, train, valid, features(task.test))


def _majority(task: _Task) -> NDArray[np.float32]:
    rows = int(task.test.lengths.sum()) if task.kind == "per_base" else len(task.test)
    return constant_scores(task.kind, task.classes, task.train, rows)


FLOORS: Mapping[str, Callable[[_Task], NDArray[np.float32]]] = {
    "majority": _majority,
    "kmer": _kmer,
    "onehot": lambda task: _linear(task, middle_bases),
    "cnn": lambda task: cnn_scores(*task),
}
"""The scores of test by name: of the shares of classes (or the mean), of logistic regression (or ridge) on frequencies
of 5-mers (of per_base: shares around the same 5-mer) and on the 80 bases in the middle, and of GenomicBenchmarks' CNN.
"""


def _task(data: LabelledData, seed: int) -> _Task:
    train, valid = data.splits["train"], data.splits.get("valid")
    order = np.random.default_rng(seed).permutation(len(train))
    if valid is None:
        valid = train.take(np.sort(order[: max(1, len(order) // 10)]))
        order = order[max(1, len(order) // 10) :]
    train = train.take(np.sort(order[:_MOST]))
    return _Task(data.kind, len(data.classes), train, valid, data.splits["test"], seed)


def _predictions(data: LabelledData, scores: NDArray[np.float32]) -> Predictions:
    test, per_base = data.splits["test"], data.kind == "per_base"
    labels = np.concatenate(list(test.labels)) if per_base else test.labels
    return Predictions(data.kind, data.classes, test.names, labels, scores, test.lengths if per_base else None)
