"""Small models of transformers for tests."""

from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hyena_dist.hf import HyenaDNAConfig

M = TypeVar("M", bound=PreTrainedModel)
LENGTH = 40


def config(**fields: Any) -> HyenaDNAConfig:
    small = {
        "d_model": 16,
        "n_layer": 2,
        "emb_dim": 5,
        "filter_order": 16,
        "activation_freq": 10,
        "max_seq_len": LENGTH,
    }
    return HyenaDNAConfig(**(small | fields))


def build(kind: type[M], **fields: Any) -> M:
    """A model in evaluation mode whose parameters are all far from where they begin."""
    torch.manual_seed(0)
    model = kind(config(**fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(7, 12, shape, generator=torch.Generator().manual_seed(seed))
