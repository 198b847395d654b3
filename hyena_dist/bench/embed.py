"""Seconds and peak memory of embedding one long sequence, beside the bare forward pass in the same run."""

import tempfile
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
    "forward again": {},
}
"""What is measured, in this order, and the options of `embed`; the forward pass twice, which shows the noise."""
COLUMNS = ("what", "length", "seconds", "tokens_per_s", "ratio", "peak_gib")


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
    rows: list[list[Any]] = []
    for what in WHAT:
        found = in_a_process(measure, what, case)
        if isinstance(found, str):
            raise UserError(f"{what} of {case.length:,} bases could not be measured: {found}; take a shorter --length")
        seconds, peak = found
        ratio = seconds / (rows[0][2] if rows else seconds)
        rows.append([what, case.length, seconds, case.length / seconds, ratio, peak])
        print(f"{what:<24} {seconds:>8.1f} s {ratio:>6.2f} x {peak:>6.2f} GiB", flush=True)
    if out is not None:
        name = f"embed-{case.device}-{case.n_layer}x{case.d_model}"
        record(out, name, COLUMNS, rows, {**case._asdict(), "threads": torch.get_num_threads()})


def measure(what: str, case: EmbedCase) -> tuple[float, float]:
    """Return the seconds of one measurement in this process, and the peak memory of the process in 2^30 bytes."""
    device = torch.device(case.device)
    torch.manual_seed(0)
    config = ModelConfig(d_model=case.d_model, n_layer=case.n_layer, l_max=case.length, embed_dropout=0.0)
    model = HyenaDNA(config).eval().to(device)
    tokens = np.random.default_rng(0).integers(BASES[0], BASES[-1] + 1, case.length).astype(np.uint8)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        model.backbone(torch.from_numpy(tokens[None, : min(case.length, 4096)]).to(device))  # warms up
        begin = now(device)
        if what.startswith("forward"):
            model.backbone(torch.from_numpy(tokens[None]).to(device))
        else:
            sequence = LETTERS[tokens].tobytes().decode()
            begin = now(device)
            embed(model, {"random": sequence}, out=Path(folder, "x.zarr"), **WHAT[what])
        seconds = now(device) - begin
    return seconds, peak_bytes(device) / 2**30
