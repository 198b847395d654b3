"""The terms that the costs of a model are counted in: a micro-batch under a layout, parameters, bytes sent, operations.

The records of config/mixers/ state the costs of a mixer in these terms, plan/ those of a run.

Symbols: B micro batch size, L sequence length, P context ranks, S = L / P, T tensor ranks, D d_model, s bytes of an
activation.
"""

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.system import op_sizes

STATE_BYTES = 4
"""Parameters, gradients, both moments of AdamW, filters and the residual stream are fp32 whatever the precision."""


M = TypeVar("M", bound=Architecture, covariant=True)


class Shape(NamedTuple, Generic[M]):
    """One micro-batch of a model under a layout."""

    model: M
    parallel: ParallelConfig
    batch: int
    """Sequences of one data-parallel rank, B."""
    length: int
    """Positions of the whole sequence, L."""
    activation_bytes: int
    """Bytes of one activation, s: 4 for fp32 and 2 for bf16."""

    @property
    def tensor(self) -> int:
        """The number of tensor ranks, T."""
        return self.parallel.tensor_model_parallel_size

    @property
    def context(self) -> int:
        """The number of context ranks, P."""
        return self.parallel.context_parallel_size

    @property
    def whole(self) -> bool:
        """Whether a rank holds whole sequences and all channels, for which one operator does a layer's part."""
        return self.tensor == self.context == 1

    @property
    def sequence_parallel(self) -> bool:
        """Whether the residual stream is spread over the tensor ranks."""
        return self.parallel.sequence_parallel and self.tensor > 1

    @property
    def rows(self) -> int:
        """Positions of all sequences together, B L."""
        return self.batch * self.length

    @property
    def stream(self) -> int:
        """Numbers in the residual stream of one context rank, S B D."""
        return self.rows // self.context * self.model.d_model

    @property
    def residual(self) -> int:
        """Numbers in the residual stream of one rank: S B D, or S B D / T with sequence parallelism."""
        return self.stream // self.tensor if self.sequence_parallel else self.stream

    @property
    def keeps_all(self) -> bool:
        """Whether the fused operators keep all that their backward needs, on a CPU."""
        return self.residual <= op_sizes.CPU.recomputed_from


class Parameter(NamedTuple):
    """One parameter tensor of a model."""

    name: str
    """The tensor's name in the module that holds it."""
    numbers: int
    """The tensor's elements over all tensor ranks, each counted once."""
    spread: bool
    """Whether each tensor rank holds an equal part of the tensor; all of them hold it whole otherwise."""

    def local(self, tensor: int) -> int:
        """Return the number of elements that one of `tensor` ranks holds."""
        return self.numbers // tensor if self.spread else self.numbers


def linear(name: str, inputs: int, outputs: int, *, column: bool) -> list[Parameter]:
    """Return the parameters of a linear layer that spreads outputs (column-parallel) or inputs (row-parallel)."""
    return [Parameter(f"{name}.weight", inputs * outputs, True), Parameter(f"{name}.bias", outputs, column)]


class Traffic(NamedTuple):
    """Bytes that a rank sends for one purpose, the mean over the ranks of the group."""

    group: str
    """The group's name as in Mesh: tensor, context, data_context or world."""
    collective: str
    """The kind of collective, as profile/traffic.py names it."""
    purpose: str
    bytes: float

    def times(self, factor: float) -> "Traffic":
        """Return the traffic with `factor` times as many bytes."""
        return self._replace(bytes=self.bytes * factor)


@dataclass(frozen=True)
class Flops:
    """Numbers of floating-point operations: a product of M x K and K x N matrices has 2 M N K, pointwise work none."""

    forward: float
    backward: float
    """What gradients need, without anything that is computed a second time."""
    repeated: float = 0.0
    """What the operators compute again in their backward pass, or on several ranks."""

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.forward + other.forward, self.backward + other.backward, self.repeated + other.repeated)

    def __mul__(self, factor: float) -> "Flops":
        return Flops(self.forward * factor, self.backward * factor, self.repeated * factor)


def product(rows: float, *weights: int, repeated: int = 0) -> Flops:
    """Return the operations of products of `rows` rows with weight matrices, and of the two gradients of each.

    Args:
        rows: number of rows that are multiplied.
        weights: how many numbers each weight has.
        repeated: how many of the weights' numbers take part in products that backward makes again.
    """
    forward = 2.0 * rows * sum(weights)
    return Flops(forward, 2 * forward, 2.0 * rows * repeated)
