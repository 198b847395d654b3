"""What ranks run in these tests."""

from pathlib import Path

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.tracking import read_metrics
from hyena_dist.train.run import train

TIMING = {"time", "throughput/tokens_per_second", "time/step_s", "time/data_s", "memory/peak_gib"}


def train_here(config: RunConfig) -> None:
    train(config, join_world(timeout_s=60))


def curve(folder: Path) -> list[dict[str, float]]:
    """Everything in metrics.jsonl that the run's configuration determines."""
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_metrics(folder / "metrics.jsonl")]
