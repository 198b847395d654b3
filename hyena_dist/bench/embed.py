"""Seconds and peak memory of embedding one long sequence, beside the bare forward pass in the same run."""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hyena_dist.bench.process import check_device, in_a_process, now
from hyena_dist.bench.record import record
from hyena_dist.config.model import ModelConfig
from hyena_dist.data.tokenizer import BASES, LETTERS
from hyena_dist.errors import UserError
from hyena_dist.inference.embed import embed
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.profile.memory import peak_bytes

WHAT: dict[str, dict[str, Any]] = {
    "forward": {},
    "mean of the last layer": {},
    "bins of 128, all layers": {"bin_size": 128, "layers": None},
    "each base, last layer": {"bin_size": 1},
}
"""What is measured, in this order, and the options of `embed`."""
COLUMNS = ("what", "length", "seconds", "ratio", "cpu_seconds", "cpu_ratio", "peak_gib")


class Measured(NamedTuple):
    """The time and memory of one measurement."""

    seconds: float
    cpu_seconds: float
    """Seconds in which the process's threads worked, which other work beside it hardly changes."""
    peak_gib: float
    """The most memory of the process, in 2^30 bytes."""


class EmbedCase(NamedTuple):
    """A model, and one random sequence that it is given."""

    length: int
    d_model: int
    n_layer: int
    device: str


def bench_embed(case: EmbedCase, out: Path | None) -> None:
    """Print, and write to `out`, what embedding takes, each in a process of its own, from model to written file.

    Ratios are to the first forward pass, without head and without loss.

    Raises:
        UserError: a device that there is not, or no memory.
    """
    check_device(case.device)
    print(f"{case.n_layer} layers, d_model {case.d_model}, {case.length:,} bases, {case.device}, fp32")
    print(f"{'what':<24} {'seconds':>10} {'ratio':>8} {'of CPU':>10} {'ratio':>8} {'peak':>10}")
    rows: list[list[Any]] = []
    bare: Measured | None = None
    for what in WHAT:
        found = in_a_process(measure, what, case)
        if isinstance(found, str):
            raise UserError(f"{what} of {case.length:,} bases could not be measured: {found}; take a shorter --length")
        bare = bare or found
        ratio, cpu_ratio = found.seconds / bare.seconds, found.cpu_seconds / bare.cpu_seconds
        rows.append([what, case.length, found.seconds, ratio, found.cpu_seconds, cpu_ratio, found.peak_gib])
        wall = f"{found.seconds:>8.1f} s {ratio:>6.2f} x"
        print(
            f"{what:<24} {wall} {found.cpu_seconds:>8.1f} s {cpu_ratio:>6.2f} x {found.peak_gib:>6.2f} GiB", flush=True
        )
    if out is not None:
        name = f"embed-{case.device}-{case.n_layer}x{case.d_model}"
        record(out, name, COLUMNS, rows, {**case._asdict(), "threads": torch.get_num_threads()})


def measure(what: str, case: EmbedCase) -> Measured:
    """Measure in this process."""
    device = torch.device(case.device)
    torch.manual_seed(0)
    config = ModelConfig(d_model=case.d_model, n_layer=case.n_layer, l_max=case.length, embed_dropout=0.0)
    model = HyenaDNA(config).eval().to(device)
    tokens = np.random.default_rng(0).integers(BASES[0], BASES[-1] + 1, case.length).astype(np.uint8)
    sequence = LETTERS[tokens].tobytes().decode()
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        model.backbone(torch.from_numpy(tokens[None, :4096]).to(device))  # warms up
        begin, cpu_begin = now(device), time.process_time()
        if what == "forward":
            model.backbone(torch.from_numpy(tokens[None]).to(device))
        else:
            embed(model, {"random": sequence}, out=Path(folder, "x.zarr"), **WHAT[what])
        seconds, cpu_seconds = now(device) - begin, time.process_time() - cpu_begin
    return Measured(seconds, cpu_seconds, peak_bytes(device) / 2**30)
