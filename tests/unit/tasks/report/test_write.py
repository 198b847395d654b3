"""A report tells all: figures with and without leaks, a verdict against each floor, and a picture of each."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dist.tasks.labelled import Kind, LabelledData
from hyena_dist.tasks.leaks import Leaks, find_leaks
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.report.write import Published, write_task_report
from tests.unit.tasks.predicted import labelled, predicted, random_tokens
from tests.unit.tasks.test_resampled import KINDS

SIZES = {"train": 40, "valid": 20, "test": 30}
HISTORY: list[dict[str, float]] = [
    {"step": 1, "train/loss": 1.0, "train/tokens": 10},
    {"step": 2, "train/loss": 0.9, "train/tokens": 20},
    {"step": 2, "valid/loss": 0.95, "valid/mcc": 0.1},
]


def task(kind: Kind, classes: int = 3, leaking: int = 5) -> tuple[LabelledData, Predictions, Predictions, Leaks]:
    """Data, the predictions of a model and of a floor, and leaks: the first sequences of test are those of train."""
    random = np.random.default_rng(0)
    count = sum(SIZES.values())
    sequences = random_tokens(random, count, 60)
    sequences[60 : 60 + leaking] = sequences[:leaking]
    model = predicted(kind, count, classes)
    if model.lengths is not None:
        sequences = [each[:length] for each, length in zip(sequences, model.lengths, strict=True)]
        labels: Any = np.empty(count, dtype=object)
        labels[:] = np.split(model.labels, np.cumsum(model.lengths)[:-1])
    else:
        labels = model.labels
    data = labelled(kind, sequences, labels, SIZES)
    test = model.take(np.arange(60, 90))
    floor = Predictions(kind, test.classes, test.names, test.labels, np.full_like(test.scores, 0.5), test.lengths)
    return data, test, floor, find_leaks(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_each_kind(kind: Kind, tmp_path: Path) -> None:
    data, test, floor, leaks = task(kind)
    written = write_task_report(tmp_path, "t", data, {"test": test}, {"majority": floor}, leaks, HISTORY, draws=20)
    found = metrics(test)
    assert json.loads((tmp_path / "task.json").read_text()) == written
    measured = {name: interval["value"] for name, interval in written["test"]["model"].items()}
    assert measured == {name: None if np.isnan(value) else value for name, value in found.items()}
    assert written["metrics"][f"task/t/{written['headline']}"] == found[written["headline"]]
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    pictures = sorted((tmp_path / "plots").glob("*.png"))
    assert "learning" in {path.stem for path in pictures}
    for picture in pictures:
        assert picture.with_suffix(".csv").exists()
        assert f"](plots/{picture.name})" in text
    assert page.count("data:image/png;base64,") == len(pictures)
    for sentence in written["verdict"]:
        assert sentence in page
        assert sentence in text


def test_the_metric_is_given_without_leaks(tmp_path: Path) -> None:
    data, test, floor, leaks = task("single_label")
    written = write_task_report(tmp_path, "t", data, {"test": test}, {"kmer": floor}, leaks, draws=20)
    assert written["leaks"]["test"] == {"size": 30, "exact": 5, "reverse_complement": 0, "near": 0}
    for name, predictions in (("model", test), ("kmer", floor)):
        clean = metrics(predictions.take(np.arange(5, 30)))
        assert written["without_leaks"][name]["accuracy"]["value"] == clean["accuracy"]
    assert written["metrics"]["task/t/mcc_without_leaks"] == metrics(test.take(np.arange(5, 30)))["mcc"]
    text = (tmp_path / "report.md").read_text()
    assert "| test | 30 | 5 | 0 | 0 | 5 |" in text
    assert "model, without leaks" in text


@pytest.mark.parametrize(("leaking", "sentence"), [(0, "No sequence of test leaks"), (30, "All sequences of test")])
def test_without_a_difference_there_is_a_sentence(leaking: int, sentence: str, tmp_path: Path) -> None:
    data, test, floor, leaks = task("single_label", leaking=leaking)
    written = write_task_report(tmp_path, "t", data, {"test": test}, {"kmer": floor}, leaks, draws=20)
    assert written["without_leaks"] == {}
    assert sentence in (tmp_path / "report.md").read_text()


def test_the_verdict_claims_what_the_interval_allows(tmp_path: Path) -> None:
    data, test, floor, leaks = task("single_label")
    floors = {"majority": floor, "kmer": test}
    published = Published("accuracy", 0.9, "a paper")
    written = write_task_report(tmp_path, "t", data, {"test": test, "valid": test}, floors, leaks, (), published)
    model, majority, same, last = written["verdict"]
    assert written["headline"] == "accuracy"
    assert model.startswith("The model's accuracy of test is 0.")
    assert majority.startswith("It is above the floor majority: by +0.")
    assert same == "It is not clearly BELOW the floor kmer: by +0.000 [+0.000, +0.000]."
    assert last == "Published: accuracy 0.900 (a paper)."
    assert written["valid"] == metrics(test)
    assert "| accuracy | 0." in (tmp_path / "report.md").read_text()


def test_the_confusion_matrix_counts(tmp_path: Path) -> None:
    data, test, _, leaks = task("single_label")
    write_task_report(tmp_path, "t", data, {"test": test}, {}, leaks, draws=20)
    with (tmp_path / "plots" / "confusion.csv").open(newline="") as file:
        counts = {(row["true"], row["predicted"]): int(row["count"]) for row in csv.DictReader(file)}
    taken = test.scores.argmax(1)
    assert counts["class1", "class2"] == ((test.labels == 1) & (taken == 2)).sum()
    assert sum(counts.values()) == 30


@pytest.mark.parametrize("classes", [2, 13])
def test_curves_go_from_corner_to_corner(classes: int, tmp_path: Path) -> None:
    data, test, floor, leaks = task("multi_label", classes)
    write_task_report(tmp_path, "t", data, {"test": test}, {"kmer": floor}, leaks, draws=20)
    with (tmp_path / "plots" / "roc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["class"] for row in rows))
    assert len(names) == min(classes, 10)
    for name in names:
        points = [(float(r["false_positive_rate"]), float(r["true_positive_rate"])) for r in rows if r["class"] == name]
        assert (points[0], points[-1]) == ((0, 0), (1, 1))
        assert points == sorted(points)
