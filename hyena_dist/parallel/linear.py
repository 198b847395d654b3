"""The tensor-parallel layers of megatron-core, with a compute type, plain outputs and plain state dicts.

Parameters stay in their own type (fp32); inputs and weights are cast to the compute type for the product, so bf16 runs
need no second copy of the filter network and no loss scaling.

Shapes: B batch, T tensor ranks, S positions of a context rank, R positions of a rank's residual stream: S, or S / T
under Megatron's sequence parallelism. Activations are [S, B, features], Megatron's order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.ops import NormInput
from hyena_dist.parallel.compat import quiet
from hyena_dist.parallel.compat.imports import importing_megatron
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import Partition, local_part, sum_gradient_over_tensor_ranks

with importing_megatron():
    from megatron.core import ModelParallelConfig, tensor_parallel
    from megatron.core.tensor_parallel import mappings

if not torch.cuda.is_available():
    quiet.ignore_stream_order()

_SMALL = (torch.uint8, torch.int8, torch.int16, torch.int32)
"""Types of token ids that lookups take not at all, or on some devices alone."""

Init = Callable[[Tensor], Any]


def normal(std: float) -> Init:
    """Return a function that fills a tensor from a normal distribution with mean 0."""
    return partial(nn.init.normal_, std=std)


def _megatron_config(mesh: Mesh, sequence_parallel: bool = False) -> ModelParallelConfig:
    # On the CPU every rank draws the whole weight and keeps its part: a seed means one model for any tensor size.
    return ModelParallelConfig(
        tensor_model_parallel_size=mesh.tensor.size(),
        context_parallel_size=mesh.context.size(),
        sequence_parallel=sequence_parallel,
        use_cpu_initialization=True,
        params_dtype=torch.get_default_dtype(),
    )


class _PlainState:
    """A base for megatron-core's layers: no `_extra_state` for Transformer Engine in state dicts, and the mesh's group.

    The mesh knows what becomes of a group in copies; megatron-core drops the one that it was given where
    torch.distributed is down.
    """

    mesh: Mesh
    tp_group = property(lambda self: self.mesh.tensor, lambda self, group: None)

    get_extra_state = nn.Module.get_extra_state
    set_extra_state = nn.Module.set_extra_state

    def _tidy(self: Any) -> None:
        self._load_state_dict_pre_hooks.clear()


class ColumnLinear(_PlainState, tensor_parallel.ColumnParallelLinear):
    """A linear layer whose rows tensor ranks share: [R, B, in_features] -> [S, B, out_features / T].

    Args:
        in_features: size of the input's last dimension.
        out_features: size of the output's, over all tensor ranks.
        mesh: this rank's groups.
        init: fills the whole weight before a rank takes its part.
        bias: whether the layer has one.
        blocks: the output is so many blocks of channels, and a rank holds the same channels of each of them, as the
            order + 1 projections of Hyena need.
        on_parameters: whether the input comes from replicated parameters alone and is whole on every rank. Its gradient
            then stays this rank's part, to be summed at the parameters, which are far smaller.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        mesh: Mesh,
        init: Init,
        bias: bool = True,
        blocks: int = 1,
        on_parameters: bool = False,
    ) -> None:
        self.mesh = mesh
        super().__init__(
            in_features,
            out_features,
            config=_megatron_config(mesh, mesh.sequence_parallel and not on_parameters),
            init_method=init,
            bias=bias,
            stride=blocks,
            disable_grad_reduce=on_parameters,
            tp_group=mesh.tensor,
        )
        self._tidy()
        self.partitions = {"weight": Partition(0, blocks)} | ({"bias": Partition(0, blocks)} if bias else {})

    def _forward_impl(self, input: Tensor, weight: Tensor, *, bias: Tensor | None, **kwargs: Any) -> Any:
        return super()._forward_impl(input, weight.to(input.dtype), bias=_to(bias, input.dtype), **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product in the type of x."""
        if self.tp_group.size() == 1:
            return F.linear(x, self.weight.to(x.dtype), _to(self.bias, x.dtype))
        return super().forward(x)[0]

    def channels_first(self, x: Tensor) -> Tensor:
        """Return the product with channels first, [R, B, in_features] -> [out_features / T, B, S], without a copy."""
        if self.tp_group.size() > 1:
            return self(x).permute(2, 1, 0).contiguous()
        positions, batch, features = x.shape
        columns = x.transpose(0, 1).reshape(batch * positions, features).t()
        weight = self.weight.to(x.dtype)
        if self.bias is None:
            product = torch.mm(weight, columns)
        else:
            product = torch.addmm(self.bias.to(x.dtype)[:, None], weight, columns)
        return product.view(-1, batch, positions)


class RowLinear(_PlainState, tensor_parallel.RowParallelLinear):
    """A linear layer whose columns tensor ranks share: [S, B, in_features / T] -> [R, B, out_features].

    The products of the tensor ranks are summed before the bias is added.
    """

    def __init__(self, in_features: int, out_features: int, *, mesh: Mesh, init: Init) -> None:
        self.mesh = mesh
        super().__init__(
            in_features,
            out_features,
            config=_megatron_config(mesh, mesh.sequence_parallel),
            init_method=init,
            bias=True,
            input_is_parallel=True,
            skip_bias_add=True,
            tp_group=mesh.tensor,
        )
        self._tidy()
        self.partitions = {"weight": Partition(1)}
        if mesh.sequence_parallel:
            sum_gradient_over_tensor_ranks(self.bias, mesh)

    def _forward_impl(self, input: Tensor, weight: Tensor, **kwargs: Any) -> Any:
        return super()._forward_impl(input, weight.to(input.dtype), **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product in the type of x."""
        if self.tp_group.size() == 1:
            return F.linear(x, self.weight.to(x.dtype), _to(self.bias, x.dtype))
        y, bias = super().forward(x)
        return y + bias.to(y.dtype)


class Norm(nn.LayerNorm):
    """LayerNorm of a rank's residual stream, [R, B, D] -> [R, B, D].

    Args:
        size: D.
        eps: added to the variance.
        mesh: this rank's groups.
        dtype: the output's type; the parameters' own if not given.
    """

    def __init__(self, size: int, *, eps: float, mesh: Mesh, dtype: torch.dtype | None = None) -> None:
        super().__init__(size, eps=eps)
        self.compute_dtype = dtype or torch.get_default_dtype()
        if mesh.sequence_parallel:
            sum_gradient_over_tensor_ranks(self.weight, mesh)
            sum_gradient_over_tensor_ranks(self.bias, mesh)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Norm":
        before = self.weight.dtype
        super()._apply(fn, recurse)
        if self.weight.dtype != before:  # a cast of the model is one of its activations
            self.compute_dtype = self.weight.dtype
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Compute the norm in the parameters' type, and cast it."""
        return super().forward(x).to(self.compute_dtype)

    def as_op_input(self) -> NormInput:
        """Return what an operator that does the norm itself needs."""
        return NormInput(self.weight, self.bias, self.eps, self.compute_dtype)


class VocabEmbedding(_PlainState, tensor_parallel.VocabParallelEmbedding):
    """Token embedding whose V rows are spread over the tensor ranks, and the head that may be tied to it."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, mesh: Mesh, init: Init) -> None:
        self.mesh = mesh
        super().__init__(
            num_embeddings,
            embedding_dim,
            init_method=init,
            reduce_scatter_embeddings=mesh.sequence_parallel,
            config=_megatron_config(mesh),
            tp_group=mesh.tensor,
        )
        self._tidy()
        self.partitions = {"weight": Partition(0)}

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look tokens up: [B, S] of any integer type, such as a tokenizer's uint8 -> [R, B, D].

        On one tensor rank each sequence lies together in memory, as mixers need it.
        """
        if input_ids.dtype in _SMALL:
            input_ids = input_ids.long()
        if self.tp_group.size() == 1:
            return F.embedding(input_ids, self.weight).transpose(0, 1)
        if self.reduce_scatter_embeddings:
            return super().forward(input_ids)  # megatron-core puts the sequence first in this case alone
        return super().forward(input_ids.t())


class VocabHead(nn.Module):
    """The weight of a head that is not tied to the embedding, its V rows spread over the tensor ranks like those."""

    weight: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, *, mesh: Mesh, init: Init) -> None:
        super().__init__()
        whole = torch.empty(num_embeddings, embedding_dim)
        init(whole)
        self.partitions = {"weight": Partition(0)}
        self.weight = local_part(whole, self.partitions["weight"], mesh)


def vocab_logits(hidden: Tensor, weight: Tensor, mesh: Mesh) -> Tensor:
    """Return this tensor rank's columns of the logits: [S, B, D] x [V / T, D] -> [S, B, V / T]."""
    if mesh.tensor.size() > 1 and not mesh.sequence_parallel:  # with it, gather_sequence sums the gradient
        hidden = mappings.copy_to_tensor_model_parallel_region(hidden, group=mesh.tensor)
    return F.linear(hidden, weight.to(hidden.dtype))


def gather_sequence(x: Tensor, mesh: Mesh, replicated: bool = False) -> Tensor:
    """Gather all positions: [R, B, D] -> [S, B, D].

    Args:
        x: this rank's positions of the residual stream.
        mesh: this rank's groups.
        replicated: what follows is the same on every tensor rank, each of which then knows the whole gradient; else it
            is a tensor-parallel layer, whose parts of the gradient are summed.
    """
    if not mesh.sequence_parallel:
        return x
    return mappings.gather_from_sequence_parallel_region(
        x, tensor_parallel_output_grad=not replicated, group=mesh.tensor
    )


def vocab_parallel_nll(logits: Tensor, targets: Tensor, vocab_size: int, mesh: Mesh) -> Tensor:
    """Return the negative log-likelihood in nats of each target, 0 where the target is negative (ignored).

    It differs in three ways from megatron-core's vocab_parallel_cross_entropy: it stays in the type of the logits,
    where that is always fp32, takes its group as an argument, and gives padded columns no probability.

    Args:
        logits: [..., V / T], this tensor rank's columns.
        targets: [...] int64.
        vocab_size: columns from here on belong to no token.
        mesh: this rank's groups, of which the tensor ranks hold the columns.

    Returns:
        [...] in the type of the logits, the same on every tensor rank.
    """
    columns = logits.shape[-1]
    first = mesh.tensor.rank() * columns
    padded = torch.arange(first, first + columns, device=logits.device) >= vocab_size
    logits = logits.masked_fill(padded, float("-inf"))
    largest = logits.detach().amax(-1, keepdim=True)
    if mesh.tensor.size() > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=mesh.tensor)
    logits = logits - largest
    mine = (targets >= first) & (targets < first + columns)
    target_logit = logits.gather(-1, torch.where(mine, targets - first, 0)[..., None])[..., 0]
    sums = torch.stack((logits.exp().sum(-1), torch.where(mine, target_logit, 0.0)))
    if mesh.tensor.size() > 1:
        sums = mappings.reduce_from_tensor_model_parallel_region(sums, group=mesh.tensor)
    return torch.where(targets >= 0, sums[0].log() - sums[1], 0.0)


def _to(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)
