"""What a training step needs of one rank's memory, by formula.

Symbols: B micro batch size, L sequence length, P context ranks, S = L / P, T tensor ranks, D d_model, C = D / T, R
ranks that hold the same parameters (context x data), N Hyena order, s bytes of an activation. The stream is the
residual stream of one rank: B S D numbers of fp32 (with sequence parallelism B S D / T).

What layers keep for backward follows ops/README.md (one operator a layer where a rank holds whole sequences and all
channels) and, with T or P above 1, models/mixers/hyena.py; the tests hold it to what processes take.
"""

from typing import NamedTuple

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan

GIB = 2**30
STATE_BYTES = 4
"""Parameters, gradients, both moments of AdamW, ZeRO's copy of the parameters and the residual stream are fp32."""

KEEPS_ALL_UP_TO = 2**20
"""Numbers in a stream of which the fused operators keep all that backward needs (ops/fused/buffer_pool.py)."""

_FIXED = 0.35 * GIB
"""Groups of channels and stretches of positions that operators work on, buckets of gradients."""


class Zero(NamedTuple):
    """What the memory of a ZeRO preset depends on."""

    stage: int
    offloads_optimizer: bool = False


class Memory(NamedTuple):
    """Bytes on one rank."""

    states: float
    """Parameters, gradients, moments."""
    activations: float
    """What layers keep for backward."""
    workspace: float
    """What lives within a step besides: gradients of the stream, the layer that is made again, filters' gradients."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)

    def describe(self) -> str:
        """One line for people."""
        parts = ", ".join(f"{name} {value / GIB:.1f}" for name, value in self._asdict().items())
        return f"{self.total / GIB:.1f} GiB a rank ({parts})"


def estimate(config: RunConfig, stage: StagePlan, zero: Zero) -> Memory:
    """Memory of one rank in a stage of the curriculum."""
    model, parallel = config.model, stage.parallel
    layers = [_layer(config, stage, letter) for letter in model.mixers]
    stream = _stream(config, stage) * STATE_BYTES
    if parallel.activation_checkpointing:
        kept, again = len(layers) * stream, max(layers)
    else:
        kept, again = sum(layers), 0.0
    kernels = max((_kernels(model, stage) for letter in model.mixers if letter == "H"), default=0.0)
    workspace = again + 5 * stream + 2 * kernels + _FIXED
    return Memory(_states(model, stage, zero), kept + stream, workspace)


def _states(model: ModelConfig, stage: StagePlan, zero: Zero) -> float:
    parallel = stage.parallel
    mine = STATE_BYTES * model.num_parameters / parallel.tensor_model_parallel_size
    ranks = stage.data_parallel_size * parallel.context_parallel_size
    if zero.stage == 0:
        return 4 * mine
    parameters = mine / ranks if zero.stage == 3 else mine
    gradients = mine / ranks if zero.stage >= 2 else mine
    return parameters + gradients + (0 if zero.offloads_optimizer else 3 * mine / ranks)


def _stream(config: RunConfig, stage: StagePlan) -> float:
    """Numbers in the residual stream."""
    parallel = stage.parallel
    spread = parallel.tensor_model_parallel_size if parallel.sequence_parallel else 1
    positions = stage.seq_length / parallel.context_parallel_size
    return stage.micro_batch_size * positions * config.model.d_model / spread


def _kernels(model: ModelConfig, stage: StagePlan) -> float:
    """Bytes of one layer's filters: a rank's channels at all positions."""
    parallel = stage.parallel
    share = parallel.tensor_model_parallel_size * parallel.context_parallel_size
    return STATE_BYTES * (model.order - 1) * stage.seq_length * model.d_model / share


def _layer(config: RunConfig, stage: StagePlan, letter: str) -> float:
    """Bytes that a layer keeps for backward, its input included."""
    model, parallel = config.model, stage.parallel
    s = 2 if config.precision == "bf16" else 4
    t, p, n = parallel.tensor_model_parallel_size, parallel.context_parallel_size, model.order
    stream = _stream(config, stage)
    inside = stage.micro_batch_size * stage.seq_length / p * model.d_model  # B S D, whole channels
    inner = inside * model.inner_size / model.d_model
    short = stream <= KEEPS_ALL_UP_TO
    if letter == "A":
        # The normed input; q, k and v as projected, turned by position and, with P above 1, exchanged; the result.
        mixer = s * (inside + inside / t * (3 + 3 + (4 if p > 1 else 0) + 2))
    elif t == p == 1:
        # What the last gate meets; of a short stream also projections, gates and spectra.
        mixer = s * inside + (inside * (s * (n + 1) + 16 * (n - 1)) if short else 0)
    else:
        # The normed input; projections and their short convolutions; each product, exchanged, and what comes back.
        mixer = s * (inside + inside / t * (2 * (n + 1) + 5 * (n - 1) + 2))
    if letter == "H":
        mixer += _kernels(model, stage)
    mlp = s * (inside + 2 * inner / t) if t > 1 else s * 2 * inner if short else 0.0
    return 2 * STATE_BYTES * stream + mixer + mlp
