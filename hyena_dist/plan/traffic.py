"""The traffic of a layout, by formula: bytes per rank and optimizer step, the mean over the ranks of a group.

Symbols: B micro batch size, L sequence length, P context ranks, T tensor ranks, R ranks that hold the same parameters
(context x data). What the mixers send is in their records (config/mixers/). Collectives count as in profile/traffic.py:
of n bytes an all-reduce over p ranks sends 2 n (p - 1) / p per rank, an all-gather or reduce-scatter n (p - 1) / p, an
all-to-all what leaves the rank.
"""

from collections import defaultdict
from collections.abc import Iterable

from hyena_dist.config.costs import STATE_BYTES, Parameter, Traffic
from hyena_dist.config.deepspeed import ZeroTraits
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.plan.stage import ModelShape, shape_of, zero_of


def step_traffic(config: RunConfig, stage: StagePlan) -> list[Traffic]:
    """Return what an optimizer step of a stage sends under the stage's own layout; lines without bytes are left out.

    Raises:
        UserError: the ZeRO preset cannot be read, as in read_preset.
    """
    shape = shape_of(config, stage)
    traits = zero_of(stage)
    micro_batches = stage.gradient_accumulation_steps
    checkpointing = shape.parallel.activation_checkpointing
    evaluations = traits.filter_evaluations(micro_batches, activation_checkpointing=checkpointing)
    ranks = stage.data_parallel_size * shape.context
    lines = [line.times(micro_batches) for line in micro_batch(shape)]
    lines += [line.times(evaluations) for line in filters(shape)]
    lines += zero(shape, traits, ranks, micro_batches)
    world = ranks * shape.tensor
    lines.append(Traffic("world", "all_reduce", "targets, signals, failed saves", 2 * 3 * 8 * (world - 1) / world))
    return _merged(lines)


def micro_batch(shape: ModelShape) -> list[Traffic]:
    """Return the traffic of one micro-batch, forward and backward, without filters and ZeRO."""
    recomputed = shape.parallel.activation_checkpointing
    found: list[Traffic] = []
    for record in shape.model.layers:
        found += [line.times(3 if recomputed else 2) for line in record.traffic(shape)]
        forward, backward = layer_tensor_traffic(shape)
        found += [line.times(4 if recomputed else 2) for line in forward] + [line.times(2) for line in backward]
        if recomputed:
            # Recomputation ends with the last tensor that backward needs: the MLP's output is not summed again.
            found.append(forward[-1].times(-1))
    return found + embedding_and_head(shape) + replicated_gradients(shape)


def filters(shape: ModelShape) -> list[Traffic]:
    """Return the traffic of one evaluation of the filters of all layers, forward and backward."""
    t = shape.tensor
    passes = 3 if shape.parallel.activation_checkpointing else 2
    found: list[Traffic] = []
    for record in shape.model.layers:
        if record.filters:
            found += [line.times(passes) for line in record.filters.traffic(shape)]
    gradients = STATE_BYTES * _whole(filter_parameters(shape))
    found.append(Traffic("tensor", "all_reduce", "gradients of filter networks", 2 * gradients * (t - 1) / t))
    return found


def layer_tensor_traffic(shape: ModelShape) -> tuple[list[Traffic], list[Traffic]]:
    """Return the tensor traffic of the mixer's or the MLP's pair of linear layers: (forward, backward)."""
    t = shape.tensor
    part = shape.stream * shape.activation_bytes * (t - 1) / t
    if not shape.sequence_parallel:
        both = [Traffic("tensor", "all_reduce", "linear layers", 2 * part)]
        return both, both
    forward = [
        Traffic("tensor", "all_gather", "linear layers", part),
        Traffic("tensor", "reduce_scatter", "linear layers", part),  # the output's, the last of the forward pass
    ]
    # The gathered input is not kept but gathered again for the weight's gradient.
    return forward, [*forward, Traffic("tensor", "all_gather", "linear layers", part)]


def embedding_and_head(shape: ModelShape) -> list[Traffic]:
    """Return the tensor traffic of the vocabulary-parallel embedding, tied head and loss, forward and backward."""
    t = shape.tensor
    part = shape.stream * STATE_BYTES * (t - 1) / t
    targets = shape.batch * shape.length // shape.context
    loss = Traffic("tensor", "all_reduce", "loss", 2 * 3 * targets * STATE_BYTES * (t - 1) / t)
    if not shape.sequence_parallel:
        head = 2 * shape.stream * shape.activation_bytes * (t - 1) / t
        return [
            Traffic("tensor", "all_reduce", "embedding", 2 * part),
            Traffic("tensor", "all_reduce", "head", head),
            loss,
        ]
    return [
        Traffic("tensor", "reduce_scatter", "embedding", part),
        Traffic("tensor", "all_gather", "embedding", part),
        Traffic("tensor", "all_gather", "head", part),
        Traffic("tensor", "reduce_scatter", "head", part),
        loss,
    ]


def replicated_gradients(shape: ModelShape) -> list[Traffic]:
    """Return what summing gradients of norms and biases, each of a rank's positions alone, sends in a backward pass."""
    t = shape.tensor
    norms_and_biases = _whole(shape.model.parameters) - _whole(filter_parameters(shape))
    size = 2 * norms_and_biases * STATE_BYTES * (t - 1) / t
    return [Traffic("tensor", "all_reduce", "gradients of norms and biases", size)] * shape.sequence_parallel


def zero(shape: ModelShape, traits: ZeroTraits, ranks: int, micro_batches: int) -> list[Traffic]:
    """Return the traffic of DeepSpeed ZeRO in an optimizer step over the R `ranks` that hold the same parameters."""
    scale = STATE_BYTES * (ranks - 1) / ranks
    held = [p.local(shape.tensor) for p in shape.model.parameters]
    size = sum(held) * scale
    if traits.stage < 3:
        gradients = size
        if traits.stage == 2:  # whatever gradients a micro-batch has
            checkpointing = shape.parallel.activation_checkpointing
            evaluations = traits.filter_evaluations(micro_batches, activation_checkpointing=checkpointing)
            in_filters = sum(p.local(shape.tensor) for p in filter_parameters(shape)) * scale
            gradients = micro_batches * (size - in_filters) + evaluations * in_filters
        found = [Traffic("data_context", "all_reduce", "gradients", 2 * gradients)]
        return found + [Traffic("data_context", "all_gather", "updated parameters", size)] * (traits.stage > 0)
    large = sum(numbers for numbers in held if numbers > traits.persistence_threshold)
    passes = 1 if large <= traits.live_parameters else 2
    gathered = large * scale
    return [
        Traffic("data_context", "reduce_scatter", "gradients", size * micro_batches),
        Traffic("data_context", "all_gather", "updated small parameters", size - gathered),
        Traffic("data_context", "all_gather", "large parameters in use", passes * gathered * micro_batches),
    ]


def filter_parameters(shape: ModelShape) -> list[Parameter]:
    """Return the parameters that the filters of all layers are computed from."""
    return [p for record in shape.model.layers if record.filters for p in record.filters.parameters(shape.model)]


def _whole(parameters: Iterable[Parameter]) -> int:
    """Count the numbers in the parameters that every tensor rank holds whole."""
    return sum(p.numbers for p in parameters if not p.spread)


def _merged(lines: Iterable[Traffic]) -> list[Traffic]:
    """Add up lines of the same group, collective and purpose, and drop those without bytes."""
    sums: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for line in lines:
        sums[line[:3]] += line.bytes
    return [Traffic(*key, total) for key, total in sums.items() if total]
