"""A model is a torch module like any other: it can be copied, pickled and averaged."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyena_dist import HyenaDNA, ModelConfig

IDS = torch.randint(7, 11, (2, 24), generator=torch.Generator().manual_seed(0))


def model() -> HyenaDNA:
    torch.manual_seed(0)
    config = ModelConfig(d_model=8, l_max=64, filter_order=16, layer_pattern="HA", num_attention_heads=2)
    return HyenaDNA(config).eval()


def saved_and_loaded(model: HyenaDNA) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[HyenaDNA], Any]] = {
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
    "EMA": lambda model: torch.optim.swa_utils.AveragedModel(model, use_buffers=True).module,
}


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_copy_is_the_same_model_with_memory_of_its_own(made: Callable[[HyenaDNA], Any]) -> None:
    original = model()
    copied = made(original)
    expected = original(IDS).logits
    assert torch.equal(copied(IDS).logits, expected)
    copied(IDS, IDS).nll_sum.backward()
    with torch.no_grad():
        for parameter in copied.parameters():
            assert parameter.grad is not None
            parameter.zero_()
    assert torch.equal(original(IDS).logits, expected)
    assert all(parameter.grad is None for parameter in original.parameters())
