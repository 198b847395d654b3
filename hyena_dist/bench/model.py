"""The models that benchmarks compare: ours, the published computation of it, and the same with attention."""

import torch
from torch import Tensor

from hyena_dist.bench.reference_model import as_published
from hyena_dist.config.mixers.attention import ATTENTION
from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops.precision import DTYPES

WHAT = ("ours", "published", "attention")


def build(what: str, length: int, *, d_model: int, n_layer: int, dtype: str, device: torch.device) -> HyenaDNA:
    """Return a model without dropout, one of `WHAT`, on a device; its activations have the type that `dtype` names."""
    torch.manual_seed(0)
    pattern = ATTENTION.letter * n_layer if what == "attention" else None
    config = ModelConfig(d_model=d_model, n_layer=n_layer, l_max=length, layer_pattern=pattern, embed_dropout=0.0)
    with device:
        model = HyenaDNA(config, compute_dtype=DTYPES[dtype])
    return as_published(model) if what == "published" else model


def random_batch(batch: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of random sequences, [batch, length] each."""
    inputs, targets = (torch.randint(7, 11, (batch, length), device=device) for _ in range(2))
    return inputs, targets


def loss(what: str, model: HyenaDNA, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss as training takes it: by the published computation with all logits in memory."""
    found = model(inputs, targets, skip_logits=what != "published").nll_sum
    assert found is not None
    return found
