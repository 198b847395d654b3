"""What ranks run in these tests."""

from pathlib import Path

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.tracking import figures, read_metrics
from hyena_dist.train.outcome import Outcome
from hyena_dist.train.run import train

TIMING = ("time/", "throughput/", "memory/")
"""Beginnings of the names of the metrics that depend on the machine and on what else it does."""


def train_here(config: RunConfig, pictures: bool = False, last_stage: int | None = None) -> Outcome:
    """Train as `hyena-dist train` does, to the CSV of each plot; the pictures would be half of a short run's work."""
    if not pictures:
        figures.save = lambda figure, path: None
    return train(config, join_world(timeout_s=60), last_stage=last_stage)


def curve(folder: Path) -> list[dict[str, float]]:
    """Everything in metrics.jsonl that the run's configuration determines."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith(TIMING)} for row in rows]
