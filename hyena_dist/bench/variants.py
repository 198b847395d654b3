"""The saving of computing once what is before a variant, beside the bound that the numbers of positions give.

On a CPU the seconds are those in which one thread worked: other work beside it hardly counts.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hyena_dist.bench.process import check_device, now
from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.data.tokenizer import BASES
from hyena_dist.inference.likelihoods import log_likelihoods
from hyena_dist.inference.shared_prefix import SharedPrefix
from hyena_dist.inference.variant_windows import VariantWindow, WindowShape
from hyena_dist.inference.window_likelihoods import AT_ONCE
from hyena_dist.models.lm import HyenaDNA

COLUMNS = ("alternatives", "position", "whole_s", "shared_s", "saving", "bound")
_WHOLE = 2**14
"""Tokens of a batch of whole passes, in which a CPU does them as fast as in larger ones."""


class VariantsCase(NamedTuple):
    """A model, and the windows of random variants that it is given."""

    window: int
    positions: tuple[float, ...]
    alternatives: tuple[int, ...]
    d_model: int
    n_layer: int
    order: int
    device: str
    repeats: int


def bench_variants(case: VariantsCase, out: Path | None) -> None:
    """Print, and write to `out`, the seconds of a variant by whole forward passes and with a shared prefix.

    Raises:
        UserError: a device that there is not.
    """
    check_device(case.device)
    torch.manual_seed(0)
    config = ModelConfig(d_model=case.d_model, n_layer=case.n_layer, l_max=case.window, order=case.order)
    model = HyenaDNA(config).eval().to(case.device)
    print(
        f"{case.n_layer} layers, d_model {case.d_model}, order {case.order}, {case.window:,} bases, {case.device}, fp32"
    )
    rows: list[list[Any]] = []
    with torch.inference_mode():
        for alternatives in case.alternatives:
            for position in case.positions:
                row = _measure(model, case, alternatives, position)
                rows.append([alternatives, position, *row])
                whole, shared, saving, bound = row
                print(
                    f"{alternatives} alternatives at {position:.2f}: whole {whole * 1e3:8.2f} ms, shared "
                    f"{shared * 1e3:8.2f} ms, {saving:.2f} x of at most {bound:.2f} x",
                    flush=True,
                )
    if out is not None:
        name = f"variants-{case.device}-{case.n_layer}x{case.d_model}"
        record(out, name, COLUMNS, rows, {**case._asdict(), "threads": torch.get_num_threads()})


def _measure(model: HyenaDNA, case: VariantsCase, alternatives: int, position: float) -> tuple[float, ...]:
    """Return the seconds of a variant in both ways, their quotient, and that of the positions computed."""
    window = case.window
    prefix = WindowShape(window, position).before(window)
    positions = prefix + (1 + alternatives) * (window - prefix)
    bound = (1 + alternatives) * window / positions
    count = max(1, AT_ONCE // case.d_model // ((1 + alternatives) * window))
    rng = np.random.default_rng(0)
    windows = []
    for _ in range(count):
        tokens = rng.integers(BASES[0], BASES[-1] + 1, (1 + alternatives, window)).astype(np.uint8)
        tokens[:, :prefix] = tokens[0, :prefix]
        windows.append(VariantWindow(tuple(range(alternatives)), tokens, prefix))
    shared = SharedPrefix(model, window, prefix)
    ways: tuple[Callable[[], object], ...] = (
        lambda: log_likelihoods(model, windows, _WHOLE),
        lambda: shared.log_likelihoods(windows),
    )
    seconds = _fastest(ways, case.repeats, torch.device(case.device))
    whole, with_prefix = (each / count for each in seconds)
    return whole, with_prefix, whole / with_prefix, bound


def _fastest(ways: Sequence[Callable[[], object]], repeats: int, device: torch.device) -> list[float]:
    """Return the least seconds of each way, in turns, after one that warms up."""
    clock = time.thread_time if device.type == "cpu" else lambda: now(device)
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats + 1):
        for way, seconds in zip(ways, found, strict=True):
            begin = clock()
            way()
            seconds.append(clock() - begin)
    return [min(seconds[1:]) for seconds in found]
