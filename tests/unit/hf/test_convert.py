"""Models of transformers as ours and back; examples of the package's docstrings."""

import doctest
from importlib import import_module

import pytest
import torch

import hyena_dist.hf
from hyena_dist import UserError
from hyena_dist.hf import HyenaDNAForCausalLM, from_native, to_native
from tests.unit.hf.small import build, ids
from tests.unit.hf.test_training import with_adapters


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_to_ours_and_back(tied: bool, dtype: torch.dtype) -> None:
    theirs = build(HyenaDNAForCausalLM, tie_word_embeddings=tied, shift=0.0).to(dtype)
    ours = to_native(theirs)
    out = ours(ids(2, 30)).logits
    assert out.dtype == ours.compute_dtype == dtype
    wanted = theirs(ids(2, 30)).logits
    # In float64 the grid of theirs is the rounded one that files have, where ours is computed.
    assert (out - wanted).abs().max() <= {torch.bfloat16: 5e-2, torch.float64: 1e-5}.get(dtype, 1e-6)
    assert not out.equal(torch.zeros_like(out))
    assert torch.equal(from_native(ours)(ids(2, 30)).logits, wanted) or dtype == torch.float64
    ours.backbone.layers[0].mlp.fc1.weight.zero_()
    assert theirs.hyena.backbone.layers[0].mlp.fc1.weight.abs().max() == 0  # one memory


def test_adapters_are_merged_first() -> None:
    model = with_adapters(build(HyenaDNAForCausalLM))
    with pytest.raises(UserError, match="has no place in both models; merge adapters into the model first"):
        to_native(model.get_base_model())
    to_native(model.merge_and_unload())


@pytest.mark.parametrize("module", sorted({*hyena_dist.hf._EXPORTS.values()}))
def test_examples(module: str) -> None:
    found = doctest.testmod(import_module(module))
    assert found.failed == 0
