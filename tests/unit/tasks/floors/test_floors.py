"""Floors find what is there to be found, and are not fitted twice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hyena_dist.data.tokenizer import A, G
from hyena_dist.errors import UserError
from hyena_dist.tasks.floors import run
from hyena_dist.tasks.floors.cnn import Cnn, _one_hot
from hyena_dist.tasks.floors.run import FLOORS, run_floors
from hyena_dist.tasks.labelled import Kind, LabelledData
from hyena_dist.tasks.metrics import HEADLINE, metrics
from tests.unit.tasks.predicted import labelled, random_tokens

SIZES = {"train": 400, "valid": 100, "test": 100}


def data_of(kind: Kind, sizes: dict[str, int] = SIZES, length: int = 70) -> LabelledData:
    """Sequences with more G where the label is, and a TATAA in their middle where the first label is."""
    random = np.random.default_rng(0)
    count = sum(sizes.values())
    sequences = random_tokens(random, count, length)
    values = random.random((count, 2)) if kind == "regression" else random.integers(2, size=(count, 2))
    for i, tokens in enumerate(sequences):
        tokens[random.random(length) < 0.4 * values[i, 1]] = G
        if kind != "regression" and values[i, 0]:
            tokens[length // 2 - 2 : length // 2 + 3] = A + np.array([3, 0, 3, 0, 0])
    if kind == "single_label":
        return labelled(kind, sequences, values[:, 0] + 2 * values[:, 1], sizes)
    if kind == "per_base":
        labels = np.empty(count, dtype=object)
        labels[:] = [(tokens == G).astype(np.int64) for tokens in sequences]
        return labelled(kind, sequences, labels, sizes)
    labels = values.astype(np.float32)
    labels[0, 0] = np.nan
    return labelled(kind, sequences, labels, sizes)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_methods_beat_the_majority(kind: Kind) -> None:
    data = data_of(kind)
    names = ("majority", "kmer", "onehot", "cnn")
    found = run_floors(data, names)
    measured = {name: metrics(predictions) for name, predictions in found.items()}
    if kind == "regression":
        assert measured["majority"]["r2/class1"] == pytest.approx(0, abs=0.05)
        assert all(measured[name]["r2/class1"] > 0.3 for name in ("kmer", "onehot", "cnn"))
        return
    headline = HEADLINE[kind]
    assert measured["majority"][headline] == (0 if kind == "single_label" else 0.5)
    assert all(measured[name][headline] > 0.6 for name in ("kmer", "onehot", "cnn"))


def test_bases_are_told_by_their_neighbours() -> None:
    data = data_of("per_base", length=20)
    found = run_floors(data, ("majority", "kmer"))
    assert metrics(found["majority"])["accuracy"] < 0.8
    assert metrics(found["kmer"])["accuracy"] > 0.85
    assert len(found["kmer"].labels) == found["kmer"].lengths.sum() == 2000


def test_a_class_that_train_lacks_is_never_predicted() -> None:
    data = data_of("single_label")
    train = data.splits["train"]
    few = {**data.splits, "train": train.take(np.flatnonzero(train.labels != 2))}
    for name, predictions in run_floors(
        LabelledData("single_label", data.classes, few, "x"), ("majority", "kmer")
    ).items():
        assert (predictions.scores[:, 2] == 0).all(), name
        np.testing.assert_allclose(predictions.scores.sum(1), 1, rtol=1e-5)


def test_a_floor_is_fitted_once_for_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of("single_label")
    said: list[str] = []
    first = run_floors(data, ("majority",), tmp_path, say=said.append)
    second = run_floors(data, ("majority",), tmp_path, seed=1, say=said.append)
    np.testing.assert_array_equal(first["majority"].scores, second["majority"].scores)
    assert len(said) == 1
    run_floors(LabelledData(data.kind, data.classes, data.splits, "other"), ("majority",), tmp_path, say=said.append)
    assert len(said) == 2


def test_a_cnn_is_the_same_for_the_same_seed() -> None:
    data = data_of("single_label", {"train": 130, "test": 20}, length=30)
    state = torch.random.get_rng_state()
    first, again, other = (run_floors(data, ("cnn",), seed=seed)["cnn"].scores for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_letters_become_vectors_before_the_first_convolution() -> None:
    model = Cnn(64, 2).eval()
    bases = torch.randint(6, (3, 64), dtype=torch.uint8)
    vectors = F.embedding(bases.long(), torch.cat([model.letters, torch.zeros(1, 100)]))
    x = vectors.transpose(1, 2)
    for conv, norm in zip(model.convs, model.norms, strict=True):
        x = F.max_pool1d(F.relu(norm(conv(x))), 2)
    torch.testing.assert_close(model(_one_hot(bases)), model.output(model.hidden(x.flatten(1))))


def test_of_many_examples_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_MOST", 50)
    task = run._task(data_of("single_label", {"train": 200, "test": 10}), seed=0)
    assert (len(task.train), len(task.valid), len(task.test)) == (50, 20, 10)
    assert not set(task.train.names) & set(task.valid.names)


@pytest.mark.parametrize(("name", "reason"), [("svm", "is none; choose of majority, kmer"), ("cnn", "whole sequences")])
def test_floors_that_say_nothing_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        run_floors(data_of("per_base", {"train": 5, "test": 5}), ("majority", name))
    assert set(FLOORS) == {"majority", "kmer", "onehot", "cnn"}
