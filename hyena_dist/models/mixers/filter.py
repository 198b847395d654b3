"""The implicit filter of Hyena: a small sine network over positions, times an exponential decay.

Shapes: L length, E emb_dim, W filter_order, C = (order - 1) * d_model / T local rows (T tensor ranks); S = L / P
positions and C_r of the d_model / T channels of one of P context ranks.
Module names are those of the published checkpoints.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.base import StepConstant, spared_from_16_bits
from hyena_dist.ops import DecayWindow, Features, SineNetwork, implicit_filter
from hyena_dist.parallel.collectives import shares, to_channels
from hyena_dist.parallel.linear import ColumnLinear, normal
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import Partition, local_part, sum_gradient_over_tensor_ranks

FAST_DECAY, SLOW_DECAY, DECAY_TARGET = 0.3, 1.5, 1e-2


class PositionalFeatures(nn.Module):
    """The features z [L, E] = (t, cos, -sin of each band) and t [L] of positions on a grid of l_max.

    The grid never rescales with L: a length warm-up keeps the filter's values, so l_max is fixed for the life of a
    model. It is computed in the parameters' type (fp32) and not stored: in bf16 a grid of 2**20 positions has only
    1,793 distinct values. Checkpoints whose stored grid differs from the formula keep theirs (`store`).
    """

    z: Tensor | None
    t: Tensor | None
    keeps_grid = False
    """Whether a grid is kept and stored even where it equals the formula, as the -hf port has it."""

    def __init__(self, l_max: int, emb_dim: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.emb_dim = emb_dim
        self.register_buffer("z", None)
        self.register_buffer("t", None)

    def grid(self, start: int, end: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute z [1, L, E] and t [1, L, 1] by formula, with shapes as published."""
        z, t = formula_grid(self.l_max, self.emb_dim, start, end, dtype, device)
        return z[None], t[None, :, None]

    def store(self, z: Tensor, t: Tensor) -> None:
        """Use this grid, z [1, l_max, E] and t [1, l_max, 1] (shapes as published), and keep it in the state dict."""
        self.z = z
        self.t = t

    def take(self, z: Tensor, t: Tensor) -> None:
        """Use the grid of a checkpoint, which is kept where it differs from the formula, be it by one bit.

        A grid in 16 bits that is the formula's but for its rounding is not: it would turn filters into stairs.

        Raises:
            UserError: a grid of another shape.
        """
        grid = self.grid(0, self.l_max, torch.float32, torch.device("cpu"))
        for stored, own in zip((z, t), grid, strict=True):
            if stored.shape != own.shape:
                raise UserError(
                    f"pos_emb has a grid of shape {tuple(stored.shape)} where the config's l_max and emb_dim say "
                    f"{tuple(own.shape)}; l_max is fixed for the life of a model"
                )
        if not self.keeps_grid and all(_same_grid(stored.cpu(), own) for stored, own in zip((z, t), grid, strict=True)):
            self.z = self.t = None
        else:
            dtype = torch.promote_types(z.dtype, torch.float32)
            self.store(z.to(dtype, copy=True), t.to(dtype, copy=True))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Some state dicts have a grid and others do not, so that its names are neither missing nor unexpected.
        z, t = state_dict.get(f"{prefix}z"), state_dict.get(f"{prefix}t")
        if z is not None and t is not None:
            self.take(z, t)
        elif not self.keeps_grid:
            self.z = self.t = None

    def forward(self, start: int, end: int, dtype: torch.dtype, device: torch.device) -> Features:
        """Return z [L, E] and t [L] of the positions from `start` up to `end`.

        Raises:
            UserError: positions that the grid does not have.
        """
        if end > self.l_max:
            raise UserError(f"a sequence of {end} is longer than the model's l_max {self.l_max}; shorten it")
        if self.z is None or self.t is None:
            return _shared_grid(self.l_max, self.emb_dim, start, end, dtype, device)
        z, t = (stored[:, start:end].to(device, dtype) for stored in (self.z, self.t))
        return Features(z[0], t[0, :, 0])


def formula_grid(l_max: int, emb_dim: int, start: int, end: int, dtype: torch.dtype, device: torch.device) -> Features:
    """Compute z [L, E] and t [L] of the positions from `start` up to `end`.

    The time and the angle have different denominators, as published.
    """
    bands = (emb_dim - 1) // 2
    with torch.inference_mode(False):  # what evaluation leaves in `_shared_grid` must do for training
        t = torch.linspace(0, 1, l_max, dtype=dtype, device=device)[start:end]
        n = torch.arange(start, end, dtype=dtype, device=device)
        frequency = torch.linspace(1e-4, bands - 1, bands, dtype=dtype, device=device)
        angle = frequency * (2 * math.pi * n / l_max)[:, None]
        return Features(torch.cat((t[:, None], torch.cos(angle), -torch.sin(angle)), dim=-1), t)


_shared_grid = lru_cache(maxsize=1)(formula_grid)
"""One for all layers, which do not write to it: at a million positions it is 24 MB, or half a GiB with 64 bands."""


def _same_grid(stored: Tensor, own: Tensor) -> bool:
    if stored.dtype not in (torch.float16, torch.bfloat16):
        return torch.equal(stored, own)
    # Before it was rounded, it may have differed by the rounding of angles, which reach 4 pi in float32.
    return torch.allclose(stored.float(), own, rtol=torch.finfo(stored.dtype).eps, atol=2**-19)


class Sine(nn.Module):
    """The trainable frequency per channel of sin(freq * x); one instance serves every layer of the network."""

    def __init__(self, width: int, freq: float) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, width), freq))


class FilterNetwork(nn.Module):
    """The network from features to filters, [L, E] -> [L, C].

    Children are numbered as in the published checkpoints: linears 0, 2, 4, ...; the sine at 1.

    The hidden layers are the same on every tensor rank; the rows of the last linear are spread like the channels.
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        width = config.filter_order
        rows = (config.order - 1) * config.d_model
        self.depth = config.num_inner_mlps + 1
        for i in range(self.depth):
            linear = nn.Linear(config.emb_dim if i == 0 else width, width)
            nn.init.normal_(linear.weight, std=config.initializer_range)
            nn.init.zeros_(linear.bias)
            self.add_module(str(2 * i), linear)
        self.add_module("1", Sine(width, config.activation_freq))
        self.add_module(
            str(2 * self.depth),
            ColumnLinear(
                width,
                rows,
                mesh=mesh,
                init=normal(config.initializer_range),
                bias=False,
                blocks=config.order - 1,
                on_parameters=True,
            ),
        )
        last = self.get_submodule(str(2 * self.depth))
        for parameter in set(self.parameters()) - set(last.parameters()):
            sum_gradient_over_tensor_ranks(parameter, mesh)

    def as_op_input(self) -> SineNetwork:
        """Return the parameters, for an operator that applies them."""
        linears = [self.get_submodule(str(2 * i)) for i in range(self.depth + 1)]
        weights, biases = ([linear.get_parameter(what) for linear in linears[:-1]] for what in ("weight", "bias"))
        return SineNetwork(
            tuple(weights),
            tuple(biases),
            self.get_submodule("1").get_parameter("freq"),
            linears[-1].get_parameter("weight"),
        )


class Modulation(nn.Module):
    """The factor exp(-t |delta|) + shift of the filters, with one decay rate per channel, from slow to fast.

    A tensor rank holds its slice of the global range of rates; it never builds a range of its own.
    """

    deltas: Tensor

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.shift = config.modulation_shift
        slow = math.log(DECAY_TARGET) / SLOW_DECAY
        fast = math.log(DECAY_TARGET) / FAST_DECAY
        rates = torch.linspace(slow, fast, (config.order - 1) * config.d_model)
        self.partitions = {"deltas": Partition(-1, config.order - 1)}
        local = self.partitions["deltas"].slice(rates, mesh.tensor.rank(), mesh.tensor.size())
        self.register_buffer("deltas", local.clone().view(1, 1, -1))

    def as_op_input(self) -> DecayWindow:
        """Return the factor, for an operator that applies it."""
        return DecayWindow(self.deltas[0, 0], self.shift)


class SharedKernels:
    """The filters of one layer in all micro-batches of an optimizer step, and the sum of their gradients.

    All micro-batches but the last use a leaf, which collects their gradients; the last uses the evaluation itself, and
    its backward takes in what the leaf has. So the parameters get their whole gradient once, in the backward pass of
    the last micro-batch, where ZeRO reduces it.

    Args:
        kernels: the filters as evaluated with gradient, [order - 1, C_r, L].
        uses: the number of micro-batches, at least 2. Each has its backward pass before the next one's forward pass.
    """

    def __init__(self, kernels: Tensor, uses: int) -> None:
        self.kernels = kernels
        self.leaf = kernels.detach().requires_grad_()
        self.uses = uses

    def use(self, length: int) -> Tensor:
        """Return the filters for the next micro-batch, [order - 1, C_r, L], whose sequences have `length` positions.

        Raises:
            RuntimeError: there are more micro-batches than announced, or of different lengths.
        """
        if self.uses == 0:
            raise RuntimeError("share_filters: more forward passes with gradient than micro-batches were announced")
        if length != self.kernels.shape[-1]:
            raise RuntimeError(f"share_filters: micro-batches of {self.kernels.shape[-1]} and of {length} positions")
        self.uses -= 1
        if self.uses:
            return self.leaf
        leaf = self.leaf
        kernels = self.kernels
        kernels.register_hook(lambda gradient: gradient if leaf.grad is None else leaf.grad.add_(gradient))
        del self.kernels, self.leaf  # the graph of the last micro-batch keeps them as long as they are needed
        return kernels


class HyenaFilter(StepConstant):
    """The order - 1 long filters of one layer with the skip term D folded in at lag zero.

    conv(u, k) + D * u equals conv(u, k + D at lag 0), so the convolution needs no second pass over u.
    Always fp32 (fp64 for an fp64 model), whatever the compute type: a cast of the model to 16 bits leaves it as it is.

    A context rank evaluates the network at its own positions and all channels, and one all-to-all turns that into all
    positions of its own channels: the work falls as 1 / P. (Splitting by channel instead saves the all-to-all but
    leaves the hidden layers, half of the work and more, whole on every rank; jobs/results has the measurement.)
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.kernels = config.order - 1
        self.mesh = mesh
        self.partitions = {"bias": Partition(0, self.kernels)}
        self.bias = local_part(torch.randn(self.kernels * config.d_model), self.partitions["bias"], mesh)
        self.pos_emb = PositionalFeatures(config.l_max, config.emb_dim)
        self.implicit_filter = FilterNetwork(config, mesh)
        self.modulation = Modulation(config, mesh)
        self._uses = 1
        self._shared: SharedKernels | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HyenaFilter":
        return super()._apply(spared_from_16_bits(fn), recurse)

    def share(self, micro_batches: int) -> None:
        """Let so many forward passes with gradient from now on use the same filters; 1 ends the sharing."""
        self._uses = micro_batches
        self._shared = None

    @property
    def owes_gradient(self) -> bool:
        """Whether the last micro-batch, which takes all gradients to the parameters, is still to come."""
        return self._shared is not None and self._shared.uses > 0

    def forward(self, length: int) -> Tensor:
        """Return the filters over the whole sequence for the channels that this rank convolves.

        Args:
            length: the positions of each context rank, S.

        Returns:
            The filters, [order - 1, C_r, L], of which the first is applied first.
        """
        if self._uses == 1 or not torch.is_grad_enabled():
            return self._evaluate(length)
        if self._shared is None:
            self._shared = SharedKernels(self._evaluate(length), self._uses)
        return self._shared.use(length * self.mesh.context.size())

    def _evaluate(self, length: int) -> Tensor:
        context = self.mesh.context
        start = context.rank() * length
        # Only the first chunk has lag zero; elsewhere D takes part with a zero, and by the same graph, because ZeRO
        # expects the gradients of all parameters on every rank, in the same order.
        skip = self.bias if context.size() == 1 else self.bias * (context.rank() == 0)
        features = self.pos_emb(start, start + length, skip.dtype, skip.device)
        device = self.bias.device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            h = implicit_filter(features, self.implicit_filter.as_op_input(), self.modulation.as_op_input(), skip)
            h = h.view(self.kernels, -1, length)
            return to_channels(h, shares(h.shape[1], context.size()), context)
