"""Predictions are the same after a file, and their examples can be taken with all of their rows."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hyena_dist.errors import UserError
from hyena_dist.tasks.predictions import Predictions
from tests.unit.tasks.predicted import predicted
from tests.unit.tasks.test_resampled import KINDS


def assert_same(first: Predictions, second: Predictions) -> None:
    assert (first.kind, first.classes, list(first.names)) == (second.kind, second.classes, list(second.names))
    np.testing.assert_array_equal(first.labels, second.labels, strict=True)
    np.testing.assert_array_equal(first.scores, second.scores, strict=True)
    np.testing.assert_array_equal(first.example_of_row, second.example_of_row, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_all(kind: str, tmp_path: Path) -> None:
    predictions = predicted(kind, 20, 3)
    predictions.save(tmp_path / "p.parquet")
    assert_same(predictions, Predictions.load(tmp_path / "p.parquet"))


def test_columns_are_what_people_read(tmp_path: Path) -> None:
    predictions = predicted("single_label", 5, 2)
    predictions.save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["name", "label", "score/class0", "score/class1"]
    assert table["label"].to_pylist() == [predictions.classes[label] for label in predictions.labels]


def test_two_sequences_of_one_name_stay_two(tmp_path: Path) -> None:
    predictions = Predictions(
        "per_base", ("a", "b"), ["x", "x"], np.array([0, 1, 0]), np.ones((3, 2), np.float32), np.array([1, 2])
    )
    predictions.save(tmp_path / "p.parquet")
    assert_same(predictions, Predictions.load(tmp_path / "p.parquet"))


@pytest.mark.parametrize("kind", KINDS)
def test_taking_examples_takes_their_rows(kind: str) -> None:
    predictions = predicted(kind, 6, 2)
    taken = predictions.take([4, 1, 1])
    assert list(taken.names) == ["seq4", "seq1", "seq1"]
    rows = np.concatenate([np.flatnonzero(predictions.example_of_row == i) for i in (4, 1, 1)])
    np.testing.assert_array_equal(taken.scores, predictions.scores[rows])
    assert_same(predictions.without([0, 2, 3, 5]), predictions.take([1, 4]))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_text("sequence,label\n")
    with pytest.raises(UserError, match=r"p\.parquet is no file of predictions"):
        Predictions.load(tmp_path / "p.parquet")
