"""Seconds and memory of whole training steps: forward, backward and AdamW."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from hyena_dist.bench.process import check_device, check_precisions, in_a_process, now
from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.profile.memory import peak_bytes

COLUMNS = ("length", "step_s", "us_per_token", "us_per_token_ratio", "over_baseline_gb", "in_all_gb", "outcome")


class StepCase(NamedTuple):
    """A model and how it is trained; batch 1."""

    d_model: int
    n_layer: int
    dtype: str
    activation_checkpointing: bool
    device: str
    repeats: int
    """Steps after the first, of which the median is taken; with 0 the first itself is."""
    plain_malloc: bool = False
    """Whether glibc allocates as it does by itself, for a comparison with what training asks of it."""


def bench_step(lengths: Sequence[int], case: StepCase, out: Path | None) -> None:
    """Print, and write to `out`, the time of a step, and the most memory over that of the process before it and in all.

    Memory is in units of 10^9 bytes; the ratio is to the time per token at the shortest length.
    """
    check_device(case.device)
    check_precisions("--dtype", [case.dtype], case.device)
    checkpointing = "with" if case.activation_checkpointing else "without"
    print(
        f"{case.n_layer} layers, d_model {case.d_model}, batch 1, {case.dtype}, {case.device}, {checkpointing} "
        f"activation checkpointing{', plain malloc' * case.plain_malloc}; forward, backward and AdamW, "
        + (f"medians of {case.repeats} after the first step" if case.repeats else "the first step")
    )
    print(f"{'length':>9} {'step':>9} {'per token':>12} {'ratio':>7} {'over baseline':>14} {'in all':>9}")
    rows: list[list[object]] = []
    first = math.nan
    for length in sorted(lengths):
        found = in_a_process(measure_step, length, case)
        seconds, over, in_all = (math.nan, math.nan, math.nan) if isinstance(found, str) else found
        per_token = 1e6 * seconds / length
        first = per_token if math.isnan(first) else first
        rows.append([length, seconds, per_token, per_token / first, over, in_all, found if seconds != seconds else ""])
        print(
            f"{length:>9,} {seconds:>8.3f}s {per_token:>9.2f} us {per_token / first:>6.2f}x {over:>11.2f} GB "
            f"{in_all:>6.2f} GB {rows[-1][-1]}",
            flush=True,
        )
        if out is not None:
            record(out, _name(case), COLUMNS, rows, case._asdict())


def _name(case: StepCase) -> str:
    plain = "-plain-malloc" * case.plain_malloc
    return f"step-{case.device}-{case.n_layer}x{case.d_model}-{case.dtype}{plain}"


def measure_step(length: int, case: StepCase) -> tuple[float, float, float]:
    """Return the seconds of a step, and 10^9 bytes: over what this process held before the first one, and in all."""
    device = torch.device(case.device)
    if device.type == "cpu" and not case.plain_malloc:
        keep_freed_memory(4 * length * case.d_model)
    torch.manual_seed(0)
    config = ModelConfig(d_model=case.d_model, n_layer=case.n_layer, l_max=length, embed_dropout=0.0)
    model = HyenaDNA(config, compute_dtype=DTYPES[case.dtype]).to(device)
    model.backbone.activation_checkpointing = case.activation_checkpointing
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs, targets = (torch.randint(7, 11, (1, length), device=device) for _ in range(2))
    before = peak_bytes(device)
    seconds = []
    for _ in range(case.repeats + 1):
        start = now(device)
        loss = model(inputs, targets, skip_logits=True).nll_sum
        assert loss is not None
        (loss / length).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(now(device) - start)
    most = peak_bytes(device)
    return statistics.median(seconds[1:] or seconds), (most - before) / 1e9, most / 1e9
