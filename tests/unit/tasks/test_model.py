"""SequenceModel: padding, what is trained, and adapters."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.task import LoraConfig
from hyena_dist.data.tokenizer import PAD
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.adapters import TARGETS, add_adapters
from hyena_dist.tasks.model import SequenceModel

LENGTHS = torch.tensor([40, 31, 7])


def build(pooling: Any = "mean", *, lora: bool = False, double: bool = False, **settings: Any) -> SequenceModel:
    torch.manual_seed(0)
    config = ModelConfig(d_model=16, n_layer=2, l_max=66, filter_order=16, embed_dropout=0.0)
    model = SequenceModel(HyenaDNA(config), 3, pooling, **settings)
    if lora:
        add_adapters(model, LoraConfig(rank=4))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zeros at first, which would hide the gradients of A
                torch.nn.init.normal_(parameter)
    return model.double() if double else model


def tokens(width: int) -> Tensor:
    bases = torch.randint(7, 11, (3, 40), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    padded = torch.full((3, width), PAD, dtype=torch.uint8)
    padded[:, :40] = bases
    return padded.masked_fill(torch.arange(width) >= LENGTHS[:, None], PAD)


@pytest.mark.parametrize("pooling", ["mean", "last", "first", "max", None])
def test_padding_changes_nothing(pooling: Any) -> None:
    model = build(pooling, double=True)
    wide, narrow = (model(tokens(width), LENGTHS) for width in (64, 40))
    for row, length in enumerate(LENGTHS):
        alone = model(tokens(40)[row : row + 1, :length], LENGTHS[row : row + 1])[0]
        for found in (wide[row], narrow[row]):
            inside = found[:length] if pooling is None else found
            assert (inside - alone).abs().max() < 1e-12


def test_a_frozen_backbone_neither_learns_nor_drops() -> None:
    model = build(frozen=True).train()
    assert not model.backbone.training
    assert model.head.training
    model(tokens(40), LENGTHS).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"}
    model.eval()
    assert not model.head.training


def test_adapters_begin_as_no_change_and_alone_are_trained() -> None:
    model = build(double=True)
    before = model(tokens(40), LENGTHS)
    add_adapters(model, LoraConfig())
    assert (model(tokens(40), LENGTHS) - before).abs().max() < 1e-14  # fused operators know no adapters
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith("head.") or ".lora_" in name for name in trained)
    assert len(trained) == 2 + 2 * len(TARGETS) * 2


def adapter_gradients(recompute: bool) -> dict[str, Tensor]:
    model = build(lora=True, double=True).train()
    model.backbone.activation_checkpointing = recompute
    model(tokens(40), LENGTHS).square().sum().backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_recomputed_activations_lose_no_gradient_of_adapters() -> None:
    kept, recomputed = adapter_gradients(False), adapter_gradients(True)
    assert kept.keys() == recomputed.keys()
    assert len(kept) == 2 + 2 * len(TARGETS) * 2
    for name, gradient in kept.items():
        assert gradient.abs().max() > 0, name
        assert (gradient - recomputed[name]).abs().max() <= 1e-12 * gradient.abs().max(), name
