"""The memory that a training step needs on one rank, by formula.

Symbols: B micro batch size, L sequence length, P context ranks, S = L / P, T tensor ranks, D d_model, R ranks that hold
the same parameters (context x data), s bytes of an activation. The stream is the residual stream of one rank: B S D
numbers of fp32 (with sequence parallelism B S D / T).

What layers keep for backward follows ops/README.md (one operator a layer where a rank holds whole sequences and all
channels) and, with T or P above 1, the modules of models/; the tests hold it to what processes take.
"""

from typing import NamedTuple

from hyena_dist.config.costs import STATE_BYTES
from hyena_dist.config.deepspeed import ZeroTraits
from hyena_dist.config.mixers.record import Mixer
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.plan.stage import ModelShape, shape_of, zero_of

GIB = 2**30

_FIXED = 0.28 * GIB
"""Bytes of the groups of channels and stretches of positions that operators work on, and of buckets of gradients."""


class Memory(NamedTuple):
    """The memory of one rank by purpose, in bytes."""

    states: float
    """Parameters, gradients and the optimizer's moments."""
    activations: float
    """What layers keep from their forward to their backward pass."""
    workspace: float
    """What lives within a step besides: gradients of the stream and of filters, and the layer that is made again."""

    @property
    def total(self) -> float:
        """All bytes of the rank."""
        return sum(self)

    def describe(self) -> str:
        """Return a line that tells people the memory of one rank in GiB."""
        parts = ", ".join(f"{name} {value / GIB:.1f}" for name, value in self._asdict().items())
        return f"{self.total / GIB:.1f} GiB a rank ({parts})"


def step_memory(config: RunConfig, stage: StagePlan) -> Memory:
    """Return the memory of one rank in an optimizer step of a stage, under the stage's own layout and ZeRO preset.

    Raises:
        UserError: the ZeRO preset cannot be read, as in read_preset.
    """
    shape = shape_of(config, stage)
    stream = STATE_BYTES * shape.residual
    layers = [_layer(shape, record) for record in shape.model.layers]
    checkpointing = shape.parallel.activation_checkpointing
    kept = len(layers) * stream if checkpointing else sum(layers)
    again = max(layers) if checkpointing else 0.0
    filters = max(_filters(shape, record) for record in shape.model.layers)
    workspace = again + 5 * stream + 2 * filters + _FIXED
    states = _states(shape, zero_of(stage), stage.data_parallel_size * shape.context)
    return Memory(states, kept + stream, workspace)


def _states(shape: ModelShape, zero: ZeroTraits, ranks: int) -> float:
    """Return the bytes of parameters, gradients and moments on one of the `ranks` that share them."""
    mine = STATE_BYTES * shape.model.num_parameters / shape.tensor
    if zero.stage == 0:
        return 4 * mine
    parameters = mine / ranks if zero.stage == 3 else mine
    gradients = mine / ranks if zero.stage >= 2 else mine
    return parameters + gradients + (0 if zero.offloads_optimizer else 3 * mine / ranks)


def _layer(shape: ModelShape, record: Mixer) -> float:
    """Return the bytes that a layer keeps for backward, its input included."""
    inner = shape.stream // shape.model.d_model * shape.model.inner_size
    # One operator keeps the activation and its slope for a short stream alone; layers that are spread over tensor ranks
    # keep the normed input, and the hidden layer before and after its activation.
    hidden = 2 * inner / shape.tensor if shape.tensor > 1 or shape.keeps_all else 0
    mlp = hidden + (shape.stream if shape.tensor > 1 else 0)
    mixer = record.kept_bytes(shape) + _filters(shape, record)
    return 2 * STATE_BYTES * shape.residual + mixer + shape.activation_bytes * mlp


def _filters(shape: ModelShape, record: Mixer) -> float:
    """Return the bytes of one layer's filters, if its mixer has any."""
    return record.filters.bytes(shape) if record.filters else 0.0
