"""Ids that a model takes, and those that it refuses in words."""

import pytest
import torch

from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.models.token_ids import look_up


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (torch.zeros(0, 5, dtype=torch.long), r"token ids of shape \(0, 5\) hold no token; give at least one"),
        (torch.zeros(2, 0, dtype=torch.uint8), r"token ids of shape \(2, 0\) hold no token"),
        (
            torch.tensor([[7, 16]]),
            "token id 16 is not in the model's vocabulary of 16; was the text encoded by another",
        ),
        (torch.tensor([[7, -1]], dtype=torch.int8), "token id -1 is not in the model's vocabulary"),
    ],
)
def test_what_is_refused(ids: torch.Tensor, sentence: str) -> None:
    model = HyenaDNA(ModelConfig(d_model=8, l_max=16, filter_order=16))
    for arguments in ({}, {"targets": ids, "skip_logits": True}):
        with pytest.raises(UserError, match=sentence):
            model(ids, **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_not_waited_for() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long, device="cuda")
    embedding = torch.nn.Embedding(16, 4, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        look_up(embedding, ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
