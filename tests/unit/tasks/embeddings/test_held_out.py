"""Held-out predictions: who is tested, that no test row trains or chooses, and what is refused."""

import numpy as np
import pytest

from hyena_dist.errors import UserError
from hyena_dist.tasks.embeddings.held_out import Outcome, best_inside, plan, predict
from hyena_dist.tasks.labelled import LabelledData
from tests.unit.tasks.embeddings.sets import examples, labelled


def three_splits() -> LabelledData:
    parts = {"train": examples([8, 8], 1), "valid": examples([3, 3], 2), "test": examples([4, 4], 3)}
    return labelled(**parts)


def test_splits_are_kept_and_read_as_they_were() -> None:
    data = three_splits()
    planned = plan(data, None)
    ((train, test),) = planned.folds
    assert (train.tolist(), test.tolist()) == (list(range(22)), list(range(22, 30)))
    assert planned.examples.names[22:] == data.splits["test"].names
    for split, first in (("train", 0), ("valid", 16), ("test", 22)):
        for number in range(len(data.splits[split])):
            np.testing.assert_array_equal(planned.examples.read(first + number), data.splits[split].read(number))


def test_the_first_bases_alone_are_read() -> None:
    data = three_splits()
    planned = plan(data, None, max_bases=40)
    assert planned.examples.lengths.max() == 40
    for number, length in enumerate(planned.examples.lengths[:16]):
        np.testing.assert_array_equal(planned.examples.read(number), data.splits["train"].read(number)[:40])
        assert len(planned.examples.read(number)) == length


def test_folds_test_each_row_once_with_every_class() -> None:
    planned = plan(three_splits(), 3)
    assert planned.tested.tolist() == list(range(30))
    for train, test in planned.folds:
        assert sorted([*train, *test]) == list(range(30))
        assert set(planned.examples.labels[test]) == {0, 1}


@pytest.mark.parametrize("classifier", ["logistic", "trees"])
def test_labels_of_test_rows_change_no_prediction(classifier: str) -> None:
    planned = plan(three_splits(), None)
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    features[:, 0] += 8 * planned.examples.labels
    found = predict(classifier, features, planned, 2)
    assert (found.scores.argmax(1) == planned.examples.labels[planned.tested]).mean() > 0.8
    np.testing.assert_allclose(found.scores.sum(1), 1, atol=1e-5)
    planned.examples.labels[planned.tested] = 1 - planned.examples.labels[planned.tested]
    np.testing.assert_array_equal(predict(classifier, features, planned, 2).scores, found.scores)


def test_the_best_inside_train_is_taken_fold_by_fold() -> None:
    planned = plan(three_splits(), 3)
    ones, twos = (np.full((30, 2), value, np.float32) for value in (1, 2))
    settings: tuple[dict[str, int], ...] = ({}, {}, {})
    found = best_inside(planned, [Outcome(ones, (0.9, 0.1, 0.5), settings), Outcome(twos, (0.2, 0.3, 0.4), settings)])
    assert found.inner == (0.9, 0.3, 0.5)
    for (_, test), expected in zip(planned.folds, (1, 2, 1), strict=True):
        assert (found.scores[test] == expected).all()


@pytest.mark.parametrize(
    ("data", "folds", "sentence"),
    [
        (LabelledData("multi_label", ("a", "b"), {}, ""), None, "the labels are multi label"),
        (labelled(train=examples([6]), test=examples([6], 1)), None, "one class alone"),
        (labelled(train=examples([6, 6])), None, "no test split"),
        (labelled(train=examples([6, 4])), 5, "the smallest has 4"),
        (labelled(train=examples([6, 2]), test=examples([6, 6], 1)), None, "class 'gc' has 2 sequences to train on"),
    ],
)
def test_what_cannot_be_learnt_is_refused(data: LabelledData, folds: int | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan(data, folds)
