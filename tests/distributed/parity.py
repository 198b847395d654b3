"""A model spread over ranks, put together again: what the parity tests compare with one process."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.parallel.tensor_shards import partitions


class Layout(NamedTuple):
    """Tensor and context size, and Megatron's sequence parallelism; the other ranks are data-parallel."""

    tensor: int = 1
    context: int = 1
    data: int = 1
    sequence_parallel: bool = False

    @property
    def ranks(self) -> int:
        return self.tensor * self.context * self.data

    def parallel(self, **kwargs: object) -> ParallelConfig:
        return ParallelConfig(
            tensor_model_parallel_size=self.tensor,
            context_parallel_size=self.context,
            sequence_parallel=self.sequence_parallel,
            **kwargs,  # type: ignore[arg-type]
        )

    def __str__(self) -> str:
        return f"tp{self.tensor}cp{self.context}dp{self.data}" + "sp" * self.sequence_parallel


class Result(NamedTuple):
    """The whole outcome of a forward and backward pass, in arrays, as a tensor's memory goes away with its rank."""

    loss: float
    logits: NDArray[np.float64]
    hidden_states: NDArray[np.float64]
    gradients: dict[str, NDArray[np.float64]]


def whole_tensors(model: nn.Module, tensors: dict[str, Tensor], mesh: Mesh) -> dict[str, Tensor]:
    """Tensors of the model's parameters by name, from the parts of the tensor ranks."""
    held = partitions(model)
    return {
        name: held[name].join(gathered(t, mesh.tensor)) if name in held else t.clone() for name, t in tensors.items()
    }


def gathered(x: Tensor, group: object) -> list[Tensor]:
    """The tensor of every rank of a group, in order."""
    if group.size() == 1:  # type: ignore[attr-defined]
        return [x]
    parts = [torch.empty_like(x) for _ in range(group.size())]  # type: ignore[attr-defined]
    dist.all_gather(parts, x.contiguous(), group=group)
    return parts


def chunk(x: Tensor, mesh: Mesh) -> Tensor:
    """This rank's samples and positions of [B, L]."""
    mine = x.tensor_split(mesh.data.size())[mesh.data.rank()]
    return mine.chunk(mesh.context.size(), dim=1)[mesh.context.rank()]


def together(x: Tensor, mesh: Mesh) -> Tensor:
    """Join the [B, S, F] of context and data ranks to the whole [B, L, F]."""
    return torch.cat(gathered(torch.cat(gathered(x, mesh.context), dim=1), mesh.data))


def build(config: ModelConfig, mesh: Mesh, checkpointing: bool = False, dtype: torch.dtype = torch.float64) -> HyenaDNA:
    """The model of seed 0, in training mode; biases are not left at zero."""
    torch.manual_seed(0)
    model = HyenaDNA(config, mesh).to(dtype)
    generator = torch.Generator().manual_seed(1)
    held = partitions(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "filter" not in name:
                blocks = mesh.tensor.size() if name in held else 1
                whole = torch.randn(parameter.numel() * blocks, generator=generator, dtype=torch.float64) * 0.1
                part = held[name].slice(whole, mesh.tensor.rank(), blocks) if name in held else whole
                parameter.copy_(part.view_as(parameter))
    model.backbone.activation_checkpointing = checkpointing
    return model


def data(batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets [B, L], some of them ignored and none evenly."""
    tokens = torch.randint(7, 12, (batch, length + 1), generator=torch.Generator().manual_seed(2))
    targets = tokens[:, 1:].clone()
    targets[targets == 11] = -100
    targets[:, : length // 3 : 2] = -100
    return tokens[:, :-1], targets


def forward_and_backward(
    config: ModelConfig,
    mesh: Mesh,
    batch: int,
    length: int,
    seeds: Sequence[int] | None,
    checkpointing: bool,
    dtype: torch.dtype = torch.float64,
) -> Result:
    """The loss is the sum over all targets; gradients are summed over the ranks that hold the same parameters."""
    model = build(config, mesh, checkpointing, dtype)
    inputs, targets = data(batch, length)
    if seeds is not None:
        seeds = [int(s) for s in torch.tensor(seeds).tensor_split(mesh.data.size())[mesh.data.rank()]]
    out = model(chunk(inputs, mesh), chunk(targets, mesh), seeds)
    loss = out.nll_sum
    loss.backward()
    total = loss.detach().clone()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    if mesh.world.size > 1:
        for gradient in gradients.values():
            dist.all_reduce(gradient, group=mesh.data_context)
        dist.all_reduce(total, group=mesh.data_context)
    logits = torch.cat(gathered(out.logits.detach(), mesh.tensor), dim=-1)
    return Result(
        total.item(),
        together(logits, mesh).numpy(),
        together(out.hidden_states.detach(), mesh).numpy(),
        {name: gradient.numpy() for name, gradient in whole_tensors(model, gradients, mesh).items()},
    )


def run_cases(
    layout: Layout, cases: Sequence[tuple[ModelConfig, int, int, Sequence[int] | None, bool]]
) -> list[Result]:
    """Run every case on one set of ranks; the results are those of the first rank."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    results = [forward_and_backward(config, mesh, *rest) for config, *rest in cases]
    return results if mesh.world.is_main else []
