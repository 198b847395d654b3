"""The cost of a change of the curriculum's stage inside a run, in steps of the new stage."""

import contextlib
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from data_prep import demo_corpus
from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.bench.process import check_precisions, in_a_process
from hyena_dist.bench.record import record
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.tracking import read_metrics

COLUMNS = ("from", "to", "step_s", "change_s", "change_in_steps")
_SETTLED = 3
"""Steps after a change that may be slower than those that follow; the difference is what the change costs."""


class StagesCase(NamedTuple):
    """A run through stages of growing length, on one process."""

    lengths: tuple[int, ...]
    d_model: int
    n_layer: int
    precision: str
    steps: int
    """Steps of each stage."""
    global_batch_tokens: int


def bench_stages(case: StagesCase, repeats: int, out: Path | None) -> None:
    """Print, and write to `out`, the median of the time that each change of stage takes beyond the steps themselves.

    This is the time of the first three steps of the new stage, from the end of the last step of the old one on, less
    three times the median of the steps after them: loader, grids and spectra of the new length, fresh memory.
    """
    if len(case.lengths) < 2 or case.steps < 2 * _SETTLED:
        raise UserError(f"a change needs two lengths or more, and {2 * _SETTLED} steps or more in each of them")
    check_precisions("--precision", [case.precision], "cuda" if torch.cuda.is_available() else "cpu")
    print(f"{case.n_layer} layers, d_model {case.d_model}, {case.precision}; medians of {repeats} runs")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        build_store([demo_corpus()], store, BuildOptions(BlockSplits((0.9, 0.1))), say=lambda _: None)
        runs = []
        for number in range(repeats):
            found = in_a_process(_measure, _config(case, store, Path(folder), f"run{number}"))
            if isinstance(found, str):
                raise UserError(f"the run did not end: {found}; try shorter lengths or a smaller model")
            runs.append(found)
            print(f"run {number + 1} of {repeats} is done", flush=True)
    print(f"{'from':>9} {'to':>9} {'a step':>9} {'change':>9} {'in steps':>9}")
    rows: list[list[object]] = []
    for index, (before, after) in enumerate(zip(case.lengths, case.lengths[1:], strict=False)):
        step_s = statistics.median(run[index][0] for run in runs)
        change_s = statistics.median(run[index][1] for run in runs)
        rows.append([before, after, step_s, change_s, change_s / step_s])
        print(f"{before:>9,} {after:>9,} {step_s:>8.3f}s {change_s:>8.3f}s {change_s / step_s:>9.2f}")
    if out is not None:
        record(out, "stages", COLUMNS, rows, case._asdict())


def _config(case: StagesCase, store: Path, folder: Path, name: str) -> RunConfig:
    tree = {
        "name": name,
        "output_dir": str(folder),
        "precision": case.precision,
        "model": {"d_model": case.d_model, "n_layer": case.n_layer, "l_max": max(case.lengths)},
        "data": {"path": str(store)},
        "train": {
            "curriculum": [{"seq_length": n, "train_iters": case.steps} for n in case.lengths],
            "global_batch_tokens": case.global_batch_tokens,
            "log_interval": 1,
            "save_interval": 0,
        },
        "evaluation": {"max_tokens": 1, "lengths": [min(case.lengths)]},
        "tracking": {"mlflow": False},
    }
    return parse_config(tree, "bench stages")


def _measure(config: RunConfig) -> list[tuple[float, float]]:
    """Return the seconds of a settled step, and those beyond the steps, for every stage but the first."""
    from hyena_dist.parallel.world import join_world
    from hyena_dist.train.run import train

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        train(config, join_world())
    rows = [row for row in read_metrics(config.run_dir / "metrics.jsonl") if "train/loss" in row]
    ends = {int(row["step"]): row["time"] for row in rows}
    return [changes(ends, stage.first_step, stage.end_step) for stage in config.stages(1)[1:]]


def changes(ends: dict[int, float], first: int, last: int) -> tuple[float, float]:
    """Return the seconds of a settled step after step `first`, and what the first few steps take on top of as many."""
    settled = statistics.median(_durations(ends, range(first + _SETTLED, last)))
    return settled, sum(_durations(ends, range(first, first + _SETTLED))) - _SETTLED * settled


def _durations(ends: dict[int, float], steps: Sequence[int]) -> list[float]:
    return [ends[step + 1] - ends[step] for step in steps]
