"""Our modules as the tools around transformers know them: plain linear layers and embeddings under the port's names."""

from typing import TypeVar

import torch
from torch import nn

from hyena_dist.models.mixers.filter import FilterNetwork, HyenaFilter, PositionalFeatures
from hyena_dist.parallel.linear import ColumnLinear, RowLinear, VocabEmbedding

M = TypeVar("M", bound=nn.Module)


def adapt(module: M) -> M:
    """Turn the parts of a model in one process into what peft, Trainer and `from_pretrained` look for, in place.

    - Linear layers become `nn.Linear`, which peft puts adapters on, and the embedding `nn.Embedding`, which can be
      resized and returns [B, S, D].
    - A filter's frequency has the name of each of its uses, and its grid is stored, as in files of the port.
    - Filters stay in float32 where a model is built in 16 bits.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ColumnLinear | RowLinear):
                setattr(parent, name, _linear(child))
            elif isinstance(child, VocabEmbedding):
                setattr(parent, name, _embedding(child))
        if isinstance(parent, FilterNetwork):
            for use in range(1, parent.depth):
                parent.add_module(str(2 * use + 1), parent.get_submodule("1"))
        if isinstance(parent, HyenaFilter):
            parent.to(torch.promote_types(parent.bias.dtype, torch.float32))
            _store_grid(parent.pos_emb, parent.bias.device)
    return module


def _linear(layer: ColumnLinear | RowLinear) -> nn.Linear:
    rows, columns = layer.weight.shape
    linear = nn.Linear(columns, rows, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    return linear


def _embedding(layer: VocabEmbedding) -> nn.Embedding:
    rows, columns = layer.weight.shape
    embedding = nn.Embedding(rows, columns, device="meta")
    embedding.weight = layer.weight
    return embedding


def _store_grid(features: PositionalFeatures, device: torch.device) -> None:
    features.keeps_grid = True
    features.store(*features.grid(0, features.l_max, torch.float32, device))
