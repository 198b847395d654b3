"""Time and peak memory of a model with our Hyena layers, with the published computation of them, and with attention."""

import math
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hyena_dist.bench.model import WHAT, build, loss, random_batch
from hyena_dist.bench.process import check_device, check_precisions, in_a_process, now
from hyena_dist.bench.record import record
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.profile.memory import peak_bytes

COLUMNS = ("what", "dtype", "length", "batch", "forward_s", "forward_backward_s", "peak_gib", "ratio", "outcome")


class Case(NamedTuple):
    """One model at one length, which a process of its own measures."""

    what: str
    dtype: str
    length: int
    batch: int
    d_model: int
    n_layer: int
    repeats: int
    device: str
    limit_s: float
    """A case that would take longer than this in all stops after its first repeat."""


class Measured(NamedTuple):
    """The medians of a case's repeats, in seconds and 2^30 bytes."""

    forward_s: float
    forward_backward_s: float
    peak_gib: float
    """The most memory over what the process held before its first step."""


def bench_operator(
    lengths: Sequence[int],
    *,
    dtypes: Sequence[str],
    d_model: int,
    n_layer: int,
    repeats: int,
    device: str,
    limit_s: float,
    out: Path | None,
    tokens: int | None = None,
) -> None:
    """Print forward and forward + backward at every length, and write table, plot and environment to `out`.

    A batch is one sequence or, given a number of tokens, as many whole sequences as have these tokens, at least one.

    Ratios are the published computation's (or attention's) seconds to ours of the same type and length, in this run.
    A method is not tried at lengths at which a step would take more than `limit_s`, to judge by the one before, nor
    beyond the one at which its memory was not enough. `out` is written anew after each length, so that nothing is lost.
    """
    check_device(device)
    check_precisions("--dtypes", dtypes, device)
    rows: list[list[Any]] = []
    print(f"{n_layer} layers, d_model {d_model}, {device}; medians of {repeats}")
    print(
        f"{'what':<10} {'dtype':<5} {'length':>9} {'batch':>5} {'forward':>10} {'fwd + bwd':>10} {'peak':>10}   to ours"
    )
    # Seconds of a step at the previous length; infinite if there is none.
    at_previous: dict[tuple[str, str], float] = {}
    previous = previous_batch = 1
    for length in sorted(lengths):
        batch = max(1, (tokens or 0) // length)
        for dtype in dtypes:
            ours: Measured | None = None
            for what in WHAT:
                growth = batch / previous_batch * (length / previous) ** (2 if what == "attention" else 1)
                if at_previous.get((what, dtype), 0) * growth > limit_s:
                    at_previous[what, dtype] = math.inf
                    continue
                case = Case(what, dtype, length, batch, d_model, n_layer, repeats, device, limit_s)
                answer = in_a_process(measure, case)
                found, outcome = (None, answer) if isinstance(answer, str) else (answer, "")
                at_previous[what, dtype] = found.forward_backward_s if found else math.inf
                ours = found if what == "ours" else ours
                ratio = found.forward_backward_s / ours.forward_backward_s if found and ours else math.nan
                figures = found or Measured(math.nan, math.nan, math.nan)
                rows.append([what, dtype, length, batch, *figures, ratio, outcome])
                seconds = f"{figures.forward_s:>9.3f}s {figures.forward_backward_s:>9.3f}s"
                place = f"{what:<10} {dtype:<5} {length:>9,} {batch:>5}"
                print(f"{place} {seconds} {figures.peak_gib:>6.2f} GiB {ratio:>8.2f} x {outcome}", flush=True)
        previous, previous_batch = length, batch
        if out is not None:
            asked = {
                "tokens": tokens,
                "d_model": d_model,
                "n_layer": n_layer,
                "repeats": repeats,
                "device": device,
                "limit_s": limit_s,
            }
            record(out, f"operator-{device}", COLUMNS, rows, asked)
            plot(out / f"operator-{device}.png", rows)


def measure(case: Case) -> Measured:
    """Measure one case in this process; the published computation has the allocator as its users have it."""
    if case.what != "published":
        keep_freed_memory(4 * case.batch * case.length * case.d_model)
    device = torch.device(case.device)
    model = build(
        case.what, case.length, d_model=case.d_model, n_layer=case.n_layer, dtype=case.dtype, device=device
    ).eval()
    inputs, targets = random_batch(case.batch, case.length, device)
    before = peak_bytes(device)
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    for _ in range(case.repeats + 1):  # the first warms up
        start = now(device)
        summed = loss(case.what, model, inputs, targets)
        middle = now(device)
        summed.backward()
        times.append((middle - start, now(device) - start))
        if time.perf_counter() - begin > case.limit_s:
            break
    kept = times[1:] or times
    forward, both = (statistics.median(column) for column in zip(*kept, strict=True))
    return Measured(forward, both, (peak_bytes(device) - before) / 2**30)


def crossing(rows: Sequence[Sequence[Any]], dtype: str) -> float | None:
    """Return the length from which attention takes longer than ours; None if all lengths are on one side.

    Between two measured lengths, both times are taken to be powers of the length.
    """
    times = {what: {row[2]: row[5] for row in rows if [*row[:2]] == [what, dtype] and not row[-1]} for what in WHAT}
    lengths = sorted(times["ours"].keys() & times["attention"].keys())
    ahead = [math.log(times["attention"][n] / times["ours"][n]) for n in lengths]
    for (n, a), (m, b) in pairwise(zip(lengths, ahead, strict=True)):
        if a <= 0 < b:
            return float(n * (m / n) ** (a / (a - b)))
    return None


def plot(path: Path, rows: list[list[Any]]) -> None:
    """Plot seconds and peak memory over length, both axes logarithmic, a line for each method and type."""
    from hyena_dist.tracking.figures import new_figure, save

    figure, axes = new_figure(8, (1, 1))
    for what, dtype in dict.fromkeys((str(row[0]), str(row[1])) for row in rows):
        chosen = [row for row in rows if row[:2] == [what, dtype] and not row[-1]]
        lengths = [row[2] for row in chosen]
        for axis, column in zip(axes, (5, 6), strict=True):
            shown = [max(row[column], 1e-3) for row in chosen]  # a peak can be too small to see
            axis.plot(lengths, shown, "o-", markersize=4, label=f"{what}, {dtype}")
    for dtype, style in zip(DTYPES, ("--", ":"), strict=True):
        length = crossing(rows, dtype)
        if length is not None:
            label = f"attention slower from {length:,.0f}, {dtype}"
            axes[0].axvline(length, color="0.5", linestyle=style, linewidth=1, label=label)
    for axis, label in zip(axes, ("forward + backward, s", "peak memory, GiB"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    axes[1].set_xlabel("sequence length")
    save(figure, path)
