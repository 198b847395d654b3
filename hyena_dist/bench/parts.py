"""The time of a Hyena layer's parts, one by one, beside that of their matrix products or transforms alone.

On a CPU all runs in one thread, and the seconds are those in which it worked: other work beside it hardly counts.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hyena_dist.bench.process import check_device, check_precisions, in_a_process
from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.filter import HyenaFilter
from hyena_dist.ops import Filters, MLPWeights, NormInput, Projections, gelu_mlp, hyena_mixer, hyena_operator
from hyena_dist.ops.conv.fft import transform
from hyena_dist.ops.fused.buffer_pool import keeps_all
from hyena_dist.ops.precision import DTYPES
from hyena_dist.ops.sizes import sizes_of
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.parallel.mesh import Mesh

COLUMNS = ("part", "forward_s", "forward_backward_s", "of_layer", "alone_s", "to_alone")
_TAPS = 3
_ORDER = 2
_WIDENING = 4


class PartsCase(NamedTuple):
    """A layer of order 2, and one sequence that it is given."""

    length: int
    d_model: int
    dtype: str
    device: str
    repeats: int


class Part(NamedTuple):
    """The seconds and the operations of one part of the layer."""

    name: str
    forward_s: float
    forward_backward_s: float
    operations: float
    """Floating-point operations of its matrix products (of the operator: its transforms), forward and backward, those
    that backward makes again included."""
    rate: float
    """Operations per second that this device reaches in one such product or transform alone."""

    @property
    def alone_s(self) -> float:
        """The seconds that the products or transforms would take alone."""
        return self.operations / self.rate


def bench_parts(case: PartsCase, out: Path | None) -> None:
    """Print, and write to `out`, the seconds of each part of a layer, forward and forward + backward, with two ratios.

    One ratio is to the whole layer, the other to the part's matrix products or transforms alone.

    Raises:
        UserError: a device or type that there is not, too short a sequence, or no memory.
    """
    check_device(case.device)
    check_precisions("--dtype", [case.dtype], case.device)
    if keeps_all(case.length * case.d_model, torch.device(case.device)):
        raise UserError(
            f"--length {case.length:,} with --d-model {case.d_model} is so short that a layer keeps everything for its "
            "backward pass, and its parts are not the sum that this measures; take a longer one"
        )
    parts = in_a_process(measure_parts, case)
    if isinstance(parts, str):
        raise UserError(f"the parts were not measured: {parts}; take a shorter --length or a smaller --d-model")
    layer = sum(part.forward_backward_s for part in parts)
    print(
        f"One layer, d_model {case.d_model}, {case.length:,} positions, {case.dtype}, {case.device}; seconds, medians"
    )
    print(f"{'part':<12} {'forward':>9} {'fwd + bwd':>10} {'of layer':>9} {'alone':>9} {'to alone':>9}")
    rows = []
    for part in parts:
        name, forward, both, *_ = part
        share = both / layer
        alone = part.alone_s
        ratio = both / alone
        rows.append([name, forward, both, share, alone, ratio])
        print(f"{name:<12} {forward:>9.3f} {both:>10.3f} {share:>9.0%} {alone:>9.3f} {ratio:>7.2f} x")
    print(f"{'layer':<12} {sum(part.forward_s for part in parts):>9.3f} {layer:>10.3f}")
    if out is not None:
        record(out, f"parts-{case.device}-{case.d_model}-{case.dtype}", COLUMNS, rows, case._asdict())


def measure_parts(case: PartsCase) -> list[Part]:
    """Measure MLP, projections (the mixer less the operator), operator and filter in this process."""
    d = case.d_model
    length = case.length
    device = torch.device(case.device)
    dtype = DTYPES[case.dtype]
    if device.type == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory(4 * length * d)
    torch.manual_seed(0)

    def parameter(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype).div_(shape[-1] ** 0.5).requires_grad_()

    hidden = _WIDENING * d
    rows = (_ORDER + 1) * d
    x = torch.randn(length, 1, d, device=device, requires_grad=True)
    norm = NormInput(parameter(d), parameter(d), 1e-5, dtype)
    weights = MLPWeights(parameter(hidden, d), parameter(hidden), parameter(d, hidden), parameter(d))
    projections = Projections(parameter(rows, d), parameter(rows), parameter(d, d), parameter(d))
    filters = Filters(parameter(rows, _TAPS), parameter(rows), parameter(_ORDER - 1, d, length))
    projected = parameter(rows, 1, length, dtype=dtype)
    config = ModelConfig(d_model=d, l_max=length)
    filter_fn = HyenaFilter(config, Mesh()).to(device)

    def measure(name: str, step: Callable[[], Tensor], rate: float) -> Part:
        with FlopCounterMode(display=False) as counter:  # and so the first, slower step is not timed
            y = step()
            y.backward(torch.ones_like(y))
        times = []
        for _ in range(case.repeats):
            start = _now(device)
            y = step()
            middle = _now(device)
            y.backward(torch.ones_like(y))
            times.append((middle - start, _now(device) - start))
        forward, both = (statistics.median(column) for column in zip(*times, strict=True))
        return Part(name, forward, both, counter.get_total_flops(), rate)

    products = _product_rate(d, hidden, dtype, device)
    small_products = _product_rate(config.filter_order, config.filter_order, torch.float32, device)
    mlp = measure("MLP", lambda: gelu_mlp(x, norm, weights, residual=True), products)
    mixer = measure("mixer", lambda: hyena_mixer(x, norm, projections, filters, residual=True), products)
    operator = measure("operator", lambda: hyena_operator(projected, filters), _transform_rate(length, device))
    implicit = measure("filter", lambda: filter_fn(length), small_products)
    projections_alone = Part(
        "projections",
        mixer.forward_s - operator.forward_s,
        mixer.forward_backward_s - operator.forward_backward_s,
        mixer.operations - operator.operations,
        products,
    )
    return [mlp, projections_alone, operator, implicit]


def _now(device: torch.device) -> float:
    """The seconds that this thread has worked or, on a GPU, the time when it has done what it was asked."""
    if device.type == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _product_rate(inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> float:
    """Return operations per second of a dense layer alone, at a stretch of positions whose outputs stay in caches."""
    positions = 2**20 // outputs
    x = torch.randn(positions, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype)
    return 2 * positions * inputs * outputs / _seconds(lambda: torch.mm(x, weight.t()), device)


def _transform_rate(length: int, device: torch.device) -> float:
    """Return the operations per second of transforms alone, of a block of channels as the operator has them."""
    fft = transform(length, torch.float32, device)
    channels = max(1, sizes_of(device).padded // fft.points)
    u = torch.randn(channels, length, device=device)
    operations = 2.5 * channels * fft.points * math.log2(fft.points)
    return operations / _seconds(lambda: fft.forward(u), device)


def _seconds(action: Callable[[], Tensor], device: torch.device) -> float:
    """Return the median of the seconds of a few calls after the first ones."""
    times = []
    for _ in range(12):
        start = _now(device)
        action()
        times.append(_now(device) - start)
    return statistics.median(times[2:])
