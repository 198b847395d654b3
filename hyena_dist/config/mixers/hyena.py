"""The record of the Hyena mixer.

Symbols: B micro batch size, L sequence length, P context ranks, T tensor ranks, D d_model, C = D / T, N Hyena order, s
bytes of an activation.
"""

import math

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.costs import STATE_BYTES, Flops, Parameter, Shape, Traffic, linear, product
from hyena_dist.config.mixers.record import FilterCosts, Mixer
from hyena_dist.system import op_sizes


def _parameters(model: Architecture) -> list[Parameter]:
    d = model.d_model
    projections = model.order + 1
    return [
        *linear("in_proj", d, projections * d, column=True),
        Parameter("short_filter.weight", projections * d * model.short_filter_order, True),
        Parameter("short_filter.bias", projections * d, True),
        *linear("out_proj", d, d, column=False),
    ]


def _kept_bytes(shape: Shape) -> float:
    n = shape.model.order
    s = shape.activation_bytes
    inside = shape.stream
    if not shape.whole:
        # The normed input; projections and their short convolutions; each product, exchanged, and what comes back.
        return s * (inside + inside / shape.tensor * (2 * (n + 1) + 5 * (n - 1) + 2))
    # What the last gate meets; of a short stream also projections, gates and spectra.
    return s * inside + (inside * (s * (n + 1) + 16 * (n - 1)) if shape.keeps_all else 0)


def _traffic(shape: Shape) -> list[Traffic]:
    """Return 2 (N - 1) B L C s (P - 1) / P^2 bytes of convolutions, each an all-to-all out and back, and the halo."""
    model = shape.model
    p = shape.context
    channels = model.d_model // shape.tensor
    kernels = model.order - 1
    exchanged = shape.length * channels * (p - 1) / p**2
    activation = shape.batch * shape.activation_bytes
    # Chunks shorter than the halo send all they have, to as many neighbours as it takes; the last ranks have fewer.
    width = model.short_filter_order - 1
    chunk = shape.length // p
    hops = range(1, min(-(-width // chunk), p - 1) + 1)
    halo = sum(min(chunk, width - (hop - 1) * chunk) * (p - hop) / p for hop in hops)
    return [
        Traffic("context", "all_to_all", "long convolutions", 2 * kernels * exchanged * activation),
        Traffic("context", "send", "halo of the short filter", (model.order + 1) * channels * halo * activation),
    ]


def _flops(shape: Shape) -> Flops:
    """Count projections and convolutions; a real FFT of n points has 2.5 n log2(n) operations."""
    d = shape.model.d_model
    convolutions = shape.model.order - 1
    b = shape.batch
    made_again = shape.whole and not shape.keeps_all
    dense = product(
        shape.rows,
        (convolutions + 2) * d * d,
        d * d,
        repeated=(convolutions + 2) * d * d if made_again else 0,
    )
    points = op_sizes.fast_fft_size(2 * shape.length - 1)
    transform = 2.5 * points * math.log2(max(2, points))
    # Spectra of B sequences and of the kernel, and B sequences back; backward the same: of the gradient, and back.
    each = convolutions * (2 * b + 1)
    spectra_again = 0 if shape.whole and shape.keeps_all else convolutions * (b + 1)
    values_again = (convolutions - 1) * b if shape.context == 1 else 0
    return dense + Flops(each, each, spectra_again + values_again) * (d * transform)


def _filter_parameters(model: Architecture) -> list[Parameter]:
    network = "filter_fn.implicit_filter"
    w = model.filter_order
    rows = (model.order - 1) * model.d_model
    inputs = [model.emb_dim] + [w] * model.num_inner_mlps
    hidden = [
        Parameter(f"{network}.{2 * i}.{what}", numbers, False)
        for i, n in enumerate(inputs)
        for what, numbers in (("weight", n * w), ("bias", w))
    ]
    return [
        Parameter("filter_fn.bias", rows, True),
        *hidden,
        Parameter(f"{network}.1.freq", w, False),
        Parameter(f"{network}.{2 * len(inputs)}.weight", rows * w, True),
    ]


def _kernel_numbers(shape: Shape) -> int:
    """Return how many numbers the filters of one layer have on one tensor rank: (N - 1) L C."""
    return (shape.model.order - 1) * shape.length * shape.model.d_model // shape.tensor


def _filter_bytes(shape: Shape) -> float:
    return STATE_BYTES * _kernel_numbers(shape) / shape.context


def _filter_traffic(shape: Shape) -> list[Traffic]:
    """Return (N - 1) L C (P - 1) / P^2 numbers of fp32: some positions of all channels become all positions of some."""
    p = shape.context
    return [Traffic("context", "all_to_all", "filters", STATE_BYTES * _kernel_numbers(shape) * (p - 1) / p**2)]


def _filter_flops(shape: Shape) -> Flops:
    """Count the network at L positions; its first layer's input has no gradient. Tensor ranks repeat hidden layers."""
    model = shape.model
    w = model.filter_order
    rows = (model.order - 1) * model.d_model
    first, inner, last = (2.0 * shape.length * w * n for n in (model.emb_dim, model.num_inner_mlps * w, rows))
    on_one_rank = shape.length // shape.context * rows // shape.tensor
    again = 0 if on_one_rank <= op_sizes.CPU.recomputed_from else first + inner
    others = (shape.tensor - 1) * (2 * first + 3 * inner)
    return Flops(first + inner + last, first + 2 * (inner + last), shape.tensor * again + others)


HYENA = Mixer(
    letter="H",
    name="Hyena",
    module="hyena_dist.models.mixers.hyena:HyenaMixer",
    parameters=_parameters,
    kept_bytes=_kept_bytes,
    traffic=_traffic,
    flops=_flops,
    filters=FilterCosts(_filter_parameters, _filter_bytes, _filter_traffic, _filter_flops),
)
