"""A measurement of ways to share the filter's work among context ranks, and of channel blocks in flight.

Start it on as many ranks as there shall be context ranks, for example with torchrun.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.models.mixers.filter import HyenaFilter
from hyena_dist.ops.reference import filter_values
from hyena_dist.parallel.collectives import shares
from hyena_dist.parallel.context_conv import context_long_conv
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.parallel.world import shutdown
from hyena_dist.profile.traffic import TrafficCounter
from hyena_dist.system.launch import launch_environment

COLUMNS = ("what", "how", "median_s", "ratio", "bytes_sent")


def bench_context(d_model: int, length: int, repeats: int, out: Path | None) -> None:
    """Measure on all launched ranks as context ranks; the first prints a table and writes it to `out`.

    Seconds are those in which a rank's own thread worked (on a GPU: elapsed), the mean over ranks of the median over
    repeats, forward and backward; each ratio is to the first line of its kind.
    """
    ranks = launch_environment().world_size
    mesh = initialize(ParallelConfig(context_parallel_size=ranks))
    rows: list[tuple[str, str, float, float, float]] = []
    for what, variants_of in (("filter", _filters), ("convolution", _blocks)):
        baseline = None
        for how, step in variants_of(d_model, length, mesh):
            seconds, sent = _measure(step, repeats, mesh)
            baseline = baseline or seconds
            rows.append((what, how, seconds, seconds / baseline, sent))
    shutdown()
    if launch_environment().rank != 0:
        return
    print(f"{ranks} context ranks, d_model {d_model}, length {length:,}, forward and backward, per rank")
    for what, how, seconds, ratio, sent in rows:
        print(f"  {what:<12} {how:<44} {seconds:>8.4f} s {ratio:>7.3f} x {sent:>13,.0f} bytes sent")
    if out is not None:
        asked = {"ranks": ranks, "d_model": d_model, "length": length, "repeats": repeats}
        record(out, f"context-{ranks}", COLUMNS, rows, asked)


def _filters(d_model: int, length: int, mesh: Mesh) -> Iterator[tuple[str, Callable[[], None]]]:
    config = ModelConfig(d_model=d_model, l_max=length)
    torch.manual_seed(0)
    whole = HyenaFilter(config, Mesh()).to(mesh.device)
    torch.manual_seed(0)
    spread = HyenaFilter(config, mesh).to(mesh.device)
    counts = shares(d_model, mesh.context.size())
    rank = mesh.context.rank()
    mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))

    def by_channel() -> Tensor:
        """The filter whose hidden layers are whole on every rank and whose last layer has the rank's channels alone."""
        z, t = whole.pos_emb(0, length, whole.bias.dtype, whole.bias.device)
        network = whole.implicit_filter.as_op_input()
        network = network._replace(last=network.last[mine])
        window = whole.modulation.as_op_input()
        window = window._replace(rates=window.rates[mine])
        h = filter_values(network, window, z, t)
        return torch.cat((h[:1] + whole.bias[mine], h[1:])).t().contiguous()

    torch.testing.assert_close(by_channel(), spread(length // mesh.context.size())[0], rtol=1e-4, atol=1e-5)
    yield "whole on every rank, then its channels", lambda: _backward(whole(length)[0, mine])
    yield "by channel (hidden layers whole)", lambda: _backward(by_channel())
    yield "by position and one all-to-all (used)", lambda: _backward(spread(length // mesh.context.size()))


def _blocks(d_model: int, length: int, mesh: Mesh) -> Iterator[tuple[str, Callable[[], None]]]:
    size = mesh.context.size()
    u = torch.randn(1, d_model, length // size, device=mesh.device, requires_grad=True)
    k = torch.randn(shares(d_model, size)[mesh.context.rank()], length, device=mesh.device, requires_grad=True)

    def convolve(blocks: int) -> None:
        _backward(context_long_conv(u, k, mesh.context, blocks))

    for blocks in (1, 2, 4, 8):
        yield f"{blocks} channel block{'s' * (blocks > 1)} in flight", partial(convolve, blocks)


def _backward(y: Tensor) -> None:
    y.backward(torch.ones_like(y))


def _measure(step: Callable[[], None], repeats: int, mesh: Mesh) -> tuple[float, float]:
    """Return the seconds and the bytes sent of one step, means over ranks."""
    counter = TrafficCounter(mesh)
    with counter:  # and so the first, slower step is not timed
        step()
    sent = mesh.world.all_reduce_sum(sum(line.bytes for line in counter.take())) / mesh.world.size
    cuda = mesh.device.type == "cuda"
    clock = time.perf_counter if cuda else time.thread_time
    times = []
    for _ in range(repeats):
        mesh.world.barrier()
        begin = clock()
        step()
        if cuda:
            torch.cuda.synchronize()
        times.append(clock() - begin)
    return mesh.world.all_reduce_sum(statistics.median(times)) / mesh.world.size, sent
