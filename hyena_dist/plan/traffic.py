"""What the ranks of a layout send, by formula: bytes per rank and optimizer step, the mean over the ranks of a group.

Symbols: B micro batch size, L sequence length, P context ranks, S = L / P, T tensor ranks, C = d_model / T channels of
one, R ranks that hold the same parameters (context x data), s bytes of an activation, N Hyena order, K taps of the
short filter. Collectives count as in profile/traffic.py: of n bytes an all-reduce over p ranks sends 2 n (p - 1) / p
per rank, an all-gather or reduce-scatter n (p - 1) / p, an all-to-all what leaves the rank.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan

PARAMETER_BYTES = 4
"""Parameters, their gradients, filters and the residual stream are fp32 whatever the precision."""


class Traffic(NamedTuple):
    """One line of the estimate."""

    group: str
    collective: str
    purpose: str
    bytes: float

    def times(self, factor: float) -> "Traffic":
        """So much more of it."""
        return self._replace(bytes=self.bytes * factor)


class Shape(NamedTuple):
    """One micro-batch of a model under a layout."""

    model: ModelConfig
    parallel: ParallelConfig
    batch: int
    length: int
    """L, the whole sequence."""
    activation_bytes: int

    @property
    def tensor(self) -> int:
        """T."""
        return self.parallel.tensor_model_parallel_size

    @property
    def context(self) -> int:
        """P."""
        return self.parallel.context_parallel_size

    @property
    def sequence_parallel(self) -> bool:
        """Whether the residual stream is spread over the tensor ranks."""
        return self.parallel.sequence_parallel and self.tensor > 1

    @property
    def stream(self) -> int:
        """Numbers in the residual stream of one context rank, S * B * d_model."""
        return self.length // self.context * self.batch * self.model.d_model


def hyena_mixer(shape: Shape) -> list[Traffic]:
    """Context traffic of one Hyena mixer in a forward pass, without its filter; the backward pass sends the same.

    The convolutions send 2 (N - 1) B L C s (P - 1) / P^2: one all-to-all out and one back each.
    """
    model, p = shape.model, shape.context
    channels, kernels = model.d_model // shape.tensor, model.order - 1
    exchanged = shape.length * channels * (p - 1) / p**2
    activation = shape.batch * shape.activation_bytes
    # Chunks shorter than the halo send all they have, to as many neighbours as it takes; the last ranks have fewer.
    width, chunk = model.short_filter_order - 1, shape.length // p
    hops = range(1, min(-(-width // chunk), p - 1) + 1)
    halo = sum(min(chunk, width - (hop - 1) * chunk) * (p - hop) / p for hop in hops)
    return [
        Traffic("context", "all_to_all", "long convolutions", 2 * kernels * exchanged * activation),
        Traffic("context", "send", "halo of the short filter", (model.order + 1) * channels * halo * activation),
    ]


def filters(shape: Shape) -> list[Traffic]:
    """Forward and backward of one evaluation of the filters of all layers: (N - 1) L C (P - 1) / P^2 fp32 each way."""
    model, p, t = shape.model, shape.context, shape.tensor
    layers, passes = model.mixers.count("H"), 3 if shape.parallel.activation_checkpointing else 2
    kernels = (model.order - 1) * shape.length * model.d_model // t * PARAMETER_BYTES
    gradients = layers * filter_parameters(model)[0] * PARAMETER_BYTES
    return [
        Traffic("context", "all_to_all", "filters", passes * layers * kernels * (p - 1) / p**2),
        Traffic("tensor", "all_reduce", "gradients of filter networks", 2 * gradients * (t - 1) / t),
    ]


def attention_mixer(shape: Shape) -> list[Traffic]:
    """Context traffic of one attention mixer in a forward pass (Ulysses); the backward pass sends the same."""
    p = shape.context
    units = shape.batch * shape.length * shape.model.d_model / shape.tensor * shape.activation_bytes * (p - 1) / p**2
    return [Traffic("context", "all_to_all", "q, k, v and the result", 4 * units)]


class Zero(NamedTuple):
    """What a DeepSpeed configuration says that its traffic depends on."""

    stage: int
    """0 to 3. Stages 0 and 1 reduce gradients once a step, 2 and 3 after each micro-batch."""
    persistence_threshold: int
    """Stage 3 keeps parameters of at most so many numbers and gathers them once a step."""
    live_parameters: int
    """Up to so many numbers, stage 3 keeps what a forward pass gathered for the backward pass."""
    late_gradients: bool
    """Whether gradients may come in the last micro-batch alone, which evaluating filters once a step takes."""

    def filter_evaluations(self, parallel: ParallelConfig, micro_batches: int) -> int:
        """How often an optimizer step evaluates the filters, forward and backward; see HyenaDNA.share_filters."""
        return 1 if self.late_gradients and not parallel.activation_checkpointing else micro_batches


def layer_tensor_traffic(shape: Shape) -> tuple[list[Traffic], list[Traffic]]:
    """Tensor traffic of the mixer's or the MLP's pair of linear layers: (forward, backward)."""
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


def embedding_and_head(shape: Shape) -> list[Traffic]:
    """Tensor traffic of the vocabulary-parallel embedding, the tied head and the loss, forward and backward."""
    t = shape.tensor
    part = shape.stream * PARAMETER_BYTES * (t - 1) / t
    targets = shape.batch * shape.length // shape.context
    loss = Traffic("tensor", "all_reduce", "loss", 2 * 3 * targets * PARAMETER_BYTES * (t - 1) / t)
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


def filter_parameters(model: ModelConfig) -> tuple[int, int]:
    """Parameters of one layer's filter: (those that every tensor rank holds whole, those that are spread over them)."""
    w, rows = model.filter_order, (model.order - 1) * model.d_model
    return (model.emb_dim + 1) * w + model.num_inner_mlps * (w + 1) * w + w, rows * (w + 1)


def norms_and_biases(model: ModelConfig) -> int:
    """Parameters outside the filters that every tensor rank holds whole."""
    return (6 * model.n_layer + 2) * model.d_model


def replicated_gradients(shape: Shape) -> list[Traffic]:
    """Tensor traffic that sums gradients of norms and biases, which count a rank's positions alone, per backward."""
    t = shape.tensor
    size = 2 * norms_and_biases(shape.model) * PARAMETER_BYTES * (t - 1) / t
    return [Traffic("tensor", "all_reduce", "gradients of norms and biases", size)] * shape.sequence_parallel


def micro_batch(shape: Shape) -> list[Traffic]:
    """Forward and backward of one micro-batch, without filters and ZeRO."""
    recomputed = shape.parallel.activation_checkpointing
    found: list[Traffic] = []
    for letter in shape.model.mixers:
        mixer = hyena_mixer(shape) if letter == "H" else attention_mixer(shape)
        found += [line.times(3 if recomputed else 2) for line in mixer]
        forward, backward = layer_tensor_traffic(shape)
        found += [line.times(4 if recomputed else 2) for line in forward] + [line.times(2) for line in backward]
        if recomputed and shape.model.resid_dropout == 0:
            # Recomputation ends with the last tensor that backward needs: the MLP's output is not summed again.
            found.append(forward[-1].times(-1))
    return found + embedding_and_head(shape) + replicated_gradients(shape)


def zero(shape: Shape, settings: Zero, ranks: int, micro_batches: int) -> list[Traffic]:
    """Traffic of DeepSpeed ZeRO in an optimizer step over the R `ranks` that hold the same parameters."""
    model, t, hyena_layers = shape.model, shape.tensor, shape.model.mixers.count("H")
    network, rows = (hyena_layers * n for n in filter_parameters(model))
    whole = norms_and_biases(model) + network
    scale = PARAMETER_BYTES * (ranks - 1) / ranks
    size = (whole + (model.num_parameters - whole) / t) * scale
    if settings.stage < 3:
        in_filters = (network + rows / t) * scale
        gradients = size
        if settings.stage == 2:  # whatever gradients a micro-batch has
            evaluations = settings.filter_evaluations(shape.parallel, micro_batches)
            gradients = micro_batches * (size - in_filters) + evaluations * in_filters
        found = [Traffic("data_context", "all_reduce", "gradients", 2 * gradients)]
        return found + [Traffic("data_context", "all_gather", "updated parameters", size)] * (settings.stage > 0)
    large = sum(n for n in parameter_sizes(model, t) if n > settings.persistence_threshold)
    passes = 1 if large <= settings.live_parameters else 2
    gathered = large * PARAMETER_BYTES * (ranks - 1) / ranks
    return [
        Traffic("data_context", "reduce_scatter", "gradients", size * micro_batches),
        Traffic("data_context", "all_gather", "updated small parameters", size - gathered),
        Traffic("data_context", "all_gather", "large parameters in use", passes * gathered * micro_batches),
    ]


def parameter_sizes(model: ModelConfig, tensor: int) -> list[int]:
    """Numbers in the matrices of one tensor rank, the parameters that can be large."""
    d, inner, t = model.d_model, model.inner_size, tensor
    sizes = [model.padded_vocab_size * d // t]
    for letter in model.mixers:
        width = model.order + 1 if letter == "H" else 3
        sizes += [width * d * d // t, d * d // t, d * inner // t, inner * d // t]
        if letter == "H":
            w = model.filter_order
            sizes += [w * model.emb_dim, *[w * w] * model.num_inner_mlps, (model.order - 1) * d * w // t]
    return sizes


def step(config: RunConfig, stage: StagePlan, settings: Zero) -> list[Traffic]:
    """An optimizer step of a run in a stage of its curriculum, lines without bytes left out."""
    activation_bytes = 2 if config.precision == "bf16" else 4
    shape = Shape(config.model, config.parallel, stage.micro_batch_size, stage.seq_length, activation_bytes)
    accumulated = stage.gradient_accumulation_steps
    ranks = stage.data_parallel_size * shape.context
    lines = [line.times(accumulated) for line in micro_batch(shape)]
    lines += [line.times(settings.filter_evaluations(shape.parallel, accumulated)) for line in filters(shape)]
    lines += zero(shape, settings, ranks, accumulated)
    world = ranks * shape.tensor
    lines.append(Traffic("world", "all_reduce", "targets, signals, failed saves", 2 * 3 * 8 * (world - 1) / world))
    return _merged(lines)


def _merged(lines: Iterable[Traffic]) -> list[Traffic]:
    """One line for each purpose of each collective."""
    sums: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for line in lines:
        sums[line[:3]] += line.bytes
    return [Traffic(*key, total) for key, total in sums.items() if total]
