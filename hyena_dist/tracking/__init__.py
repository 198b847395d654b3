"""The traces that a run leaves behind: metrics, parameters, plots and a record of where it ran."""

from hyena_dist.tracking.base import Status, Tracker, Trackers
from hyena_dist.tracking.environment import environment
from hyena_dist.tracking.jsonl import JsonlTracker, read_metrics
from hyena_dist.tracking.mlflow import MlflowTracker
from hyena_dist.tracking.plots import plot_ppl_by_length, plot_training
from hyena_dist.tracking.progress import TrainingProgress, human
from hyena_dist.tracking.time_plot import plot_time

__all__ = [
    "JsonlTracker",
    "MlflowTracker",
    "Status",
    "Tracker",
    "Trackers",
    "TrainingProgress",
    "environment",
    "human",
    "plot_ppl_by_length",
    "plot_time",
    "plot_training",
    "read_metrics",
]
