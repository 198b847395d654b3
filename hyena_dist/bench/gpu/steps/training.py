"""Training under ZeRO-1 as users start it: some steps, and the second half of them again from the checkpoint between.

Both ways end in checkpoints that are equal to the bit, or the case fails. Programs of their own do it, as they need
packages (deepspeed, zarr) that this machine may not have.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes

RUN = """
name: whole
output_dir: {folder}
precision: {precision}
model: {{d_model: {d_model}, n_layer: {n_layer}, l_max: {length}}}
data: {{path: {folder}/store}}
parallel: {{zero: zero1}}
train:
  curriculum: [{{seq_length: {length}, train_iters: {steps}}}]
  global_batch_size: 8
  log_interval: 1
  save_interval: {half}
  keep_last: 9
evaluation: {{max_tokens: 1000, lengths: [{length}]}}
tracking: {{mlflow: false}}
"""
LIMIT_S = 120


class DifferentError(Exception):
    """Two checkpoints that should be equal are not."""


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give the one case that there is."""
    yield {"what": "train, save, resume", "steps": sizes.train_steps}, partial(_measure, sizes)


def _measure(sizes: Sizes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "genome.fa").write_text(f">chr1\n{'ACGTTGCATTAGCCA' * 20_000}\n")
        data = ["data", "build", str(folder / "genome.fa"), "--out", str(folder / "store")]
        _hyena_dist(*data, "--split-fractions", "0.9,0.1")
        steps = sizes.train_steps
        precision = "fp32" if sizes.dry else "bf16"
        size = {"d_model": sizes.d_model, "n_layer": sizes.n_layer, "length": sizes.train_length}
        (folder / "run.yaml").write_text(
            RUN.format(folder=folder, precision=precision, steps=steps, half=steps // 2, **size)
        )
        start = time.perf_counter()
        _hyena_dist("train", str(folder / "run.yaml"))
        seconds = time.perf_counter() - start
        shutil.copytree(folder / "whole", folder / "resumed")
        last = f"checkpoints/step-{steps:08}"
        shutil.rmtree(folder / "resumed" / last)
        _hyena_dist("train", str(folder / "run.yaml"), "name=resumed")
        _compare(folder / "whole" / last, folder / "resumed" / last)
        return {"step_ms": _step_ms(folder / "whole/metrics.jsonl"), "train_s": seconds, "resumed": "equal to the bit"}


def _hyena_dist(*arguments: str) -> None:
    """Run the command line; a package that is not there leaves the case out.

    Raises:
        LeftOut: an import failed.
        RuntimeError: the command failed, with the end of what it said.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "hyena_dist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S)
    if done.returncode:
        if missing := re.findall(r"^(?:ModuleNotFound|Import)Error: (.*)$", done.stderr, re.MULTILINE):
            raise LeftOut(missing[-1])
        raise RuntimeError(f"hyena-dist {arguments[0]}: {done.stderr[-400:]}")


def _compare(whole: Path, resumed: Path) -> None:
    names = [path.name for path in whole.glob("*.safetensors")]
    different = [name for name in names if (whole / name).read_bytes() != (resumed / name).read_bytes()]
    if different or not names:
        raise DifferentError(f"{', '.join(different) or 'all files'} of the run and of the one that was resumed differ")


def _step_ms(metrics: Path) -> float:
    """Return the median milliseconds of the steps of the second half."""
    from hyena_dist.tracking.jsonl import read_metrics

    ends = [row["time"] for row in read_metrics(metrics) if "train/loss" in row]
    durations = [after - before for before, after in pairwise(ends)]
    return 1e3 * statistics.median(durations[len(durations) // 2 :])
