"""Losses and scores of each kind of labels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hyena_dist.tasks.labelled import Examples
from hyena_dist.tasks.losses import Criterion, criterion_of


def examples(labels: np.ndarray) -> Examples:
    count = len(labels)
    return Examples([str(i) for i in range(count)], np.full(count, 4), labels, lambda i: np.full(4, 7, np.uint8))


def mean(criterion: Criterion, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    return float(criterion.loss_sum(outputs, labels)) / criterion.weight_sum(labels)


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    outputs, labels = torch.randn(7, 3).double(), torch.tensor([0, 1, 1, 2, 0, 1, -100])
    criterion = Criterion("single_label", (1.0, 2.0, 0.5))
    expected = F.cross_entropy(outputs, labels, torch.tensor([1.0, 2.0, 0.5]).double())
    assert mean(criterion, outputs, labels) == pytest.approx(float(expected), rel=1e-12)
    assert torch.allclose(criterion.scores(outputs), outputs.softmax(1))


def test_bases_without_a_label_count_not() -> None:
    outputs, labels = torch.randn(2, 5, 3).double(), torch.randint(0, 3, (2, 5))
    criterion = Criterion("per_base")
    labels[1, 2:] = -100
    known = outputs.flatten(0, 1)[labels.flatten() >= 0], labels.flatten()[labels.flatten() >= 0]
    assert mean(criterion, outputs, labels) == pytest.approx(float(F.cross_entropy(*known)), rel=1e-12)


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_what_is_not_known_has_neither_loss_nor_gradient(kind: str) -> None:
    criterion = Criterion("multi_label") if kind == "multi_label" else Criterion("regression", None, (3.0,), (2.0,))
    outputs = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0], [0], [math.nan], [1], [1], [math.nan]])
    loss = criterion.loss_sum(outputs, labels)
    loss.backward()
    known = outputs[[0, 1, 3, 4]], labels[[0, 1, 3, 4]].double()
    if kind == "multi_label":
        expected = F.binary_cross_entropy_with_logits(*known)
    else:
        expected = F.mse_loss(known[0] * 2 + 3, known[1]) / 4
        assert torch.allclose(criterion.scores(outputs), outputs * 2 + 3)
    assert float(loss.detach()) / criterion.weight_sum(labels) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert outputs.grad is not None
    assert (outputs.grad[:, 0] != 0).tolist() == [True, True, False, True, True, False]


def test_balanced_classes_weigh_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 2 + [2] * 4)
    criterion = criterion_of("single_label", examples(labels), 3, balanced=True)
    assert criterion.class_weights is not None
    assert [w * n for w, n in zip(criterion.class_weights, (6, 2, 4), strict=True)] == pytest.approx([4, 4, 4])
    assert criterion.weight_sum(torch.from_numpy(labels)) == pytest.approx(12)


def test_balanced_labels_weigh_what_is_there_as_what_is_not() -> None:
    flags = np.array([[1, 0], [0, 0], [0, 1], [0, np.nan]], dtype=np.float32)
    assert criterion_of("multi_label", examples(flags), 2, balanced=True).class_weights == (3.0, 2.0)


def test_targets_are_standardized() -> None:
    numbers = np.array([[1, 5], [3, 5], [np.nan, 5]], dtype=np.float32)
    criterion = criterion_of("regression", examples(numbers), 2, balanced=False)
    assert criterion.means == (2.0, 5.0)
    assert criterion.deviations == (1.0, 1.0)
