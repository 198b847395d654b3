"""megatron-core's tensor-parallel layers with what this project adds: a compute type, plain outputs, plain state dicts.

Parameters stay in their own type (fp32); inputs and weights are cast to the compute type for the product, so bf16 runs
need no second copy of the filter network and no loss scaling. Activations are [L, B, features], Megatron's order.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.parallel.mesh import Mesh

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "Transformer Engine and Apex are not installed": they are not used
    from megatron.core import ModelParallelConfig, tensor_parallel

Init = Callable[[Tensor], Any]


def normal(std: float) -> Init:
    """Normal initialisation with mean 0."""
    return partial(nn.init.normal_, std=std)


def _megatron_config(mesh: Mesh) -> ModelParallelConfig:
    # On the CPU every rank draws the whole weight and keeps its part: a seed means one model for any tensor size.
    return ModelParallelConfig(
        tensor_model_parallel_size=mesh.tensor.size(),
        context_parallel_size=mesh.context.size(),
        use_cpu_initialization=True,
        params_dtype=torch.get_default_dtype(),
    )


class _PlainState:
    """Without the `_extra_state` that megatron-core keeps for Transformer Engine."""

    get_extra_state = nn.Module.get_extra_state
    set_extra_state = nn.Module.set_extra_state

    def _tidy(self: Any, mesh: Mesh) -> None:
        self._load_state_dict_pre_hooks.clear()
        # With torch.distributed down, megatron-core drops the group it was given.
        self.tp_group = mesh.tensor


class ColumnLinear(_PlainState, tensor_parallel.ColumnParallelLinear):
    """[L, B, in_features] -> [L, B, out_features / T]: each of T tensor ranks holds a part of the rows.

    With `blocks` = n the output is n blocks of channels and a rank holds the same channels of each of them, as the
    order + 1 projections of Hyena need.
    """

    def __init__(
        self, in_features: int, out_features: int, *, mesh: Mesh, init: Init, bias: bool = True, blocks: int = 1
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            config=_megatron_config(mesh),
            init_method=init,
            bias=bias,
            stride=blocks,
            tp_group=mesh.tensor,
        )
        self._tidy(mesh)

    def _forward_impl(self, input: Tensor, weight: Tensor, *, bias: Tensor | None, **kwargs: Any) -> Any:
        return super()._forward_impl(input, weight.to(input.dtype), bias=_to(bias, input.dtype), **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """The product in the type of x."""
        if self.tp_group.size() == 1:
            return F.linear(x, self.weight.to(x.dtype), _to(self.bias, x.dtype))
        return super().forward(x)[0]


class RowLinear(_PlainState, tensor_parallel.RowParallelLinear):
    """[L, B, in_features / T] -> [L, B, out_features], summed over the T tensor ranks before the bias."""

    def __init__(self, in_features: int, out_features: int, *, mesh: Mesh, init: Init) -> None:
        super().__init__(
            in_features,
            out_features,
            config=_megatron_config(mesh),
            init_method=init,
            bias=True,
            input_is_parallel=True,
            skip_bias_add=True,
            tp_group=mesh.tensor,
        )
        self._tidy(mesh)

    def _forward_impl(self, input: Tensor, weight: Tensor, **kwargs: Any) -> Any:
        return super()._forward_impl(input, weight.to(input.dtype), **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """The product in the type of x."""
        if self.tp_group.size() == 1:
            return F.linear(x, self.weight.to(x.dtype), _to(self.bias, x.dtype))
        y, bias = super().forward(x)
        return y + bias.to(y.dtype)


class VocabEmbedding(_PlainState, tensor_parallel.VocabParallelEmbedding):
    """Token embedding whose rows are spread over the tensor ranks, and the head that is tied to it."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, mesh: Mesh, init: Init) -> None:
        super().__init__(
            num_embeddings, embedding_dim, init_method=init, config=_megatron_config(mesh), tp_group=mesh.tensor
        )
        self._tidy(mesh)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[...] int64 -> [..., D]."""
        if self.tp_group.size() == 1:
            return F.embedding(input_ids, self.weight)
        return super().forward(input_ids)


def tied_logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """[..., D] x [V / T, D] -> [..., V / T]: this rank's columns of the logits."""
    return F.linear(hidden, weight.to(hidden.dtype))


def _to(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)
