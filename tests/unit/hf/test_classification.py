"""HyenaDNAForSequenceClassification: what is pooled, and the three losses."""

import pytest
import torch
import torch.nn.functional as F

from hyena_dist import UserError
from hyena_dist.hf import HyenaDNAForSequenceClassification
from hyena_dist.hf.config import POOLINGS
from tests.unit.hf.small import build, config, ids

WANTED = {
    "mean": lambda h: h.mean(1),
    "max": lambda h: h.amax(1),
    "last": lambda h: h[:, -1],
    "first": lambda h: h[:, 0],
}


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_sees_the_tokens_alone(pooling: str) -> None:
    model = build(HyenaDNAForSequenceClassification, pooling=pooling, num_labels=3).double()
    tokens = ids(1, 20)
    wanted = model.score(WANTED[pooling](model.hyena(tokens).last_hidden_state))
    assert (model(tokens).logits - wanted).abs().max() <= 1e-12
    for left, right in ((3, 0), (0, 3), (2, 1)):
        batch = F.pad(tokens, (left, right), value=4)
        assert (model(batch, batch != 4).logits - wanted).abs().max() <= 1e-10


LOSSES = {
    "single_label_classification": (3, torch.tensor([2, 0]), F.cross_entropy),
    "multi_label_classification": (
        3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), F.binary_cross_entropy_with_logits,
    ),
    "regression": (1, torch.tensor([0.5, -1.0]), lambda x, y: F.mse_loss(x[:, 0], y)),
}  # fmt: skip


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("problem", LOSSES)
def test_the_loss_is_that_of_the_problem(problem: str, stated: bool) -> None:
    labels, targets, loss = LOSSES[problem]
    fields = {"problem_type": problem} if stated else {}
    model = build(HyenaDNAForSequenceClassification, num_labels=labels, **fields)
    out = model(ids(2, 20), labels=targets)
    assert torch.equal(out.loss, loss(out.logits, targets))
    assert model.config.problem_type == problem
    out.loss.backward()
    assert model.hyena.backbone.embeddings.word_embeddings.weight.grad.abs().max() > 0


def test_a_pooling_that_is_not_built_is_refused() -> None:
    with pytest.raises(UserError, match="pooling 'sum' is not built; choose one of mean, last, first, max"):
        config(pooling="sum")
