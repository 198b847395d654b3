"""What the costs of a model are counted in: one micro-batch under a layout, parameters, bytes sent, operations.

The records of config/mixers/ state the costs of a mixer in these terms, plan/ those of a run.

Symbols: B micro batch size, L sequence length, P context ranks, S = L / P, T tensor ranks, D d_model, s bytes of an
activation.
"""

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.op_sizes import RECOMPUTED_FROM

STATE_BYTES = 4
"""Parameters, gradients, both moments of AdamW, filters and the residual stream are fp32 whatever the precision."""


M = TypeVar("M", bound=Architecture, covariant=True)


class Shape(NamedTuple, Generic[M]):
    """One micro-batch of a model under a layout."""

    model: M
    parallel: ParallelConfig
    batch: int
    """B, sequences of one data-parallel rank."""
    length: int
    """L, positions of the whole sequence."""
    activation_bytes: int
    """s, 4 for fp32 and 2 for bf16."""

    @property
    def tensor(self) -> int:
        """T, the number of tensor ranks."""
        return self.parallel.tensor_model_parallel_size

    @property
    def context(self) -> int:
        """P, the number of context ranks."""
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
        """Whether the fused operators keep all that their backward needs."""
        return self.residual <= RECOMPUTED_FROM


class Parameter(NamedTuple):
    """One parameter tensor of a model."""

    name: str
    """As the module that holds it names it."""
    numbers: int
    """Its elements over all tensor ranks, each counted once."""
    spread: bool
    """Whether each tensor rank holds an equal part; all of them hold it whole otherwise."""

    def local(self, tensor: int) -> int:
        """The elements that one of `tensor` ranks holds."""
        return self.numbers // tensor if self.spread else self.numbers


def linear(name: str, inputs: int, outputs: int, *, column: bool) -> list[Parameter]:
    """Weight and bias of a linear layer that spreads its outputs (column-parallel) or its inputs (row-parallel)."""
    return [Parameter(f"{name}.weight", inputs * outputs, True), Parameter(f"{name}.bias", outputs, column)]


class Traffic(NamedTuple):
    """Bytes that a rank sends for one purpose, the mean over the ranks of the group."""

    group: str
    """tensor, context, data_context or world, as Mesh names them."""
    collective: str
    """The kind, as profile/traffic.py names it."""
    purpose: str
    bytes: float

    def times(self, factor: float) -> "Traffic":
        """The same line for `factor` times as many bytes."""
        return self._replace(bytes=self.bytes * factor)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations; a product of M x K and K x N matrices has 2 M N K, and pointwise work none."""

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
    """Matrix products of `rows` rows with weights of so many numbers, and the two gradients of each.

    Args:
        rows: number of rows that are multiplied.
        weights: numbers of each weight.
        repeated: of the weights' numbers, those whose product backward makes again.
    """
    forward = 2.0 * rows * sum(weights)
    return Flops(forward, 2 * forward, 2.0 * rows * repeated)
