"""Time for a generated base, its error and its memory, by length, beside a full forward pass for each base.

On a CPU all runs in one thread, and the seconds of that thread are given too: other work beside it hardly counts.
"""

import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.bench.process import check_device, in_a_process, now
from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.generation.decoder import Decoder, memory_bytes
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.profile.memory import peak_bytes
from hyena_dist.tracking.figures import label_lines, new_figure, save

COLUMNS = (
    "prompt",
    "length",
    "prefill_s",
    "us_per_base",
    "ratio",
    "cpu_us_per_base",
    "cpu_ratio",
    "total_s",
    "forward_s",
    "times_less",
    "error",
    "mib",
    "formula_mib",
)
_DRAWN = ("length", "total_s", "forward_s")
_WARM_UP = 256
_FORWARDS = 4
_MIB = 2**20


class GenerateCase(NamedTuple):
    """A model, and how it is run."""

    d_model: int
    n_layer: int
    order: int
    batch: int
    prompt: int
    device: str


class Measured(NamedTuple):
    """The times that generation of L bases took."""

    prefill_s: float
    seconds: NDArray[np.float64]
    """The time of each base by the wall clock, [L]."""
    cpu_seconds: NDArray[np.float64]
    """The time of the thread for each base, [L]."""
    forward_s: float
    """A forward pass for each base of the continuation instead: L times the mean at lengths spread evenly over it."""
    error: float
    """The largest difference of a logit from the forward pass in fp64, as a share of the largest logit."""


def bench_generate(lengths: list[int], case: GenerateCase, out: Path | None) -> None:
    """Print, and write to `out` with a picture, what generation takes, each length in a process of its own.

    Ratios are to the first length.

    Raises:
        UserError: a device that there is not, or no memory.
    """
    check_device(case.device)
    print(
        f"{case.n_layer} layers, d_model {case.d_model}, order {case.order}, {case.batch} at once after "
        f"{case.prompt:,} bases, {case.device}, fp32"
    )
    head = f"{'length':>8} {'prefill':>9} {'a base':>10} {'ratio':>6} {'of CPU':>10} {'ratio':>6} {'in all':>9}"
    print(f"{head} {'by forward':>11} {'less':>7} {'error':>8} {'memory':>9} {'formula':>9}")
    rows: list[list[Any]] = []
    for length in lengths:
        found, memory = in_a_process(measure, length, case), _without_gaps(measure_memory, length, case)
        if isinstance(found, str) or isinstance(memory, str):
            raise UserError(f"{length:,} bases could not be measured: {found}, {memory}; take a shorter length")
        us, cpu_us = (1e6 * each.mean() for each in (found.seconds, found.cpu_seconds))
        ratio, cpu_ratio = (us / rows[0][3], cpu_us / rows[0][5]) if rows else (1.0, 1.0)
        total = found.prefill_s + found.seconds.sum()
        config = _config(case, length)
        mib, formula = memory / _MIB, memory_bytes(config, case.batch, length) / _MIB
        less = found.forward_s / total
        rows.append(
            [
                case.prompt,
                length,
                found.prefill_s,
                us,
                ratio,
                cpu_us,
                cpu_ratio,
                total,
                found.forward_s,
                less,
                found.error,
                mib,
                formula,
            ]
        )
        print(
            f"{length:>8,} {found.prefill_s:>7.2f} s {us:>7.0f} us {ratio:>5.2f}x {cpu_us:>7.0f} us {cpu_ratio:>5.2f}x "
            f"{total:>7.2f} s {found.forward_s:>9.1f} s {less:>6.0f}x {found.error:>8.1e} {mib:>5.1f} MiB "
            f"{formula:>5.1f} MiB",
            flush=True,
        )
    if out is not None:
        name = f"generate-{case.device}-{case.n_layer}x{case.d_model}-order{case.order}-prompt{case.prompt}"
        record(out, name, COLUMNS, rows, case._asdict())
        _plot(rows, out / f"{name}.png")


def measure(length: int, case: GenerateCase) -> Measured:
    """Measure in this process."""
    model, ids = _prepare(length, case)
    decoder = Decoder(model, case.batch, case.prompt + length)
    begin = now(ids.device)
    logits = [decoder.prefill(ids[:, : case.prompt])] if case.prompt else []
    prefill_s = now(ids.device) - begin
    times = []
    for t in range(case.prompt, case.prompt + length):
        start, cpu_start = time.perf_counter(), time.thread_time()
        logits.append(decoder.step(ids[:, t]))
        times.append((now(ids.device) - start, time.thread_time() - cpu_start))
    seconds, cpu_seconds = np.array(times).T
    error = _error(model, ids, torch.stack(logits, dim=1)[:, -length:])
    return Measured(prefill_s, seconds, cpu_seconds, _forwards(model, ids, length), error)


def measure_memory(length: int, case: GenerateCase) -> int:
    """Return the most bytes that generation without a prompt has beside the model, in this process.

    A prompt's forward pass has a peak of its own, which the formula does not state.
    """
    model, ids = _prepare(length, case._replace(prompt=0))
    if ids.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
        before = peak_bytes(ids.device)
    decoder = Decoder(model, case.batch, length)
    for t in range(length):
        decoder.step(ids[:, t])
    return peak_bytes(ids.device) - before


def _prepare(length: int, case: GenerateCase) -> tuple[HyenaDNA, Tensor]:
    """Return a model that has taken a few steps, and random bases [B, P + L]."""
    device = torch.device(case.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    model = HyenaDNA(_config(case, length)).eval()
    with torch.no_grad():
        model.backbone.embeddings.word_embeddings.weight.normal_()  # logits as large as those of trained models
    ids = torch.randint(7, 11, (case.batch, case.prompt + length), device=device)
    decoder = Decoder(model.to(device), case.batch, min(_WARM_UP, length))
    for t in range(decoder.max_length):
        decoder.step(ids[:, t])
    return model, ids


def _without_gaps(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a process whose C library gives freed tensors back at once, which is slow and shows what is in use."""
    name = "MALLOC_MMAP_THRESHOLD_"
    before = os.environ.get(name)
    os.environ[name] = str(2**14)
    try:
        return in_a_process(measure, *arguments)
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@torch.no_grad()
def _forwards(model: HyenaDNA, ids: Tensor, length: int) -> float:
    """Return the seconds that a forward pass for each base takes, from some passes at lengths evenly spread."""
    times = []
    for part in range(_FORWARDS):
        upto = ids.shape[1] - length + max(1, length * (2 * part + 1) // (2 * _FORWARDS))
        begin = now(ids.device)
        model(ids[:, :upto])
        times.append(now(ids.device) - begin)
    return length * float(np.mean(times))


@torch.no_grad()
def _error(model: HyenaDNA, ids: Tensor, found: Tensor) -> float:
    exact = copy.deepcopy(model).double()(ids).logits[:, -found.shape[1] :]
    return float((found.double() - exact).abs().max() / exact.abs().max())


def _config(case: GenerateCase, length: int) -> ModelConfig:
    return ModelConfig(
        d_model=case.d_model,
        n_layer=case.n_layer,
        order=case.order,
        l_max=max(2, case.prompt + length),
        modulation_shift=0.05,
    )


def _plot(rows: list[list[Any]], png: Path) -> None:
    """Draw the seconds that sequences take, generated and by a forward pass for each base."""
    figure, (axes,) = new_figure(4)
    lengths, totals, forwards = ([row[COLUMNS.index(name)] for row in rows] for name in _DRAWN)
    axes.loglog(lengths, totals, "o-")
    axes.loglog(lengths, forwards, "o-")
    axes.set_xlabel("bases")
    axes.set_ylabel("seconds")
    label_lines(axes, [(totals[-1], "generate"), (forwards[-1], "a forward pass for each base")], "")
    save(figure, png)
