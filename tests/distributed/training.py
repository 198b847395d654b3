"""The functions that ranks run in these tests."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.plan.traffic import step_traffic
from hyena_dist.tracking import figures, read_metrics
from hyena_dist.train.outcome import Outcome
from hyena_dist.train.run import train

TIMING = ("time/", "throughput/", "memory/")
"""Beginnings of the names of the metrics that depend on the machine and on what else it does."""


def train_here(config: RunConfig, pictures: bool = False, last_stage: int | None = None) -> Outcome:
    """Train as `hyena-dist train` does, to the CSV of each plot; the pictures would be half of a short run's work."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setattr(figures, "save", lambda figure, path: None)
        return train(config, join_world(timeout_s=60), last_stage=last_stage)


def train_counting(config: RunConfig) -> None:
    """Train until these processes can do no more, with `--profile comm`."""
    train(config, join_world(timeout_s=60), profile={"comm"})


def check_traffic(config: RunConfig, ranks: int) -> None:
    """Check that the last step of each stage sent what the plan says, within 1 % (ZeRO pads its shards).

    The steps are those that `train_counting` has logged.
    """
    counted: defaultdict[int, dict[tuple[str, str], float]] = defaultdict(dict)
    with open(config.run_dir / "communication.csv", newline="") as file:
        for row in csv.DictReader(file):
            counted[int(row["step"])][row["group"], row["collective"]] = float(row["bytes"])
    for stage in config.stages(ranks):
        planned: defaultdict[tuple[str, str], float] = defaultdict(float)
        for line in step_traffic(config, stage):
            planned[line[:2]] += line.bytes
        # The norm's two or three numbers are all that stage 3 all-reduces over data ranks, and have no line.
        sent = {key: value for key, value in counted[stage.end_step].items() if key in planned or value > 64}
        assert sent == pytest.approx({key: value for key, value in planned.items() if value}, rel=0.01), stage


def curve(folder: Path) -> list[dict[str, float]]:
    """Everything in metrics.jsonl that the run's configuration determines."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith(TIMING)} for row in rows]
