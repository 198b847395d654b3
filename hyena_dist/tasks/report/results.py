"""Results: all that is measured for the report of a task, of the model and of the simple methods beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hyena_dist.tasks.bootstrap import Interval, check_same_examples, interval_of, resample
from hyena_dist.tasks.leaks import LEAK_KINDS, Leaks
from hyena_dist.tasks.metrics import HEADLINE, measure, metrics
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.resampled import Values

MODEL = "model"
"""The name under which the model stands beside the floors."""


@dataclass(frozen=True)
class Published:
    """A figure that a paper gives for the task."""

    metric: str
    """The metric's name in `metrics.metrics`, such as accuracy."""
    value: float
    source: str
    """Where it stands."""


@dataclass(frozen=True)
class Results:
    """Metrics with intervals of test, by method: "model", then the floors."""

    headline: str
    """The metric by which methods are compared: the published one, or the one of the kind of labels."""
    test: Mapping[str, Mapping[str, Interval]]
    without_leaks: Mapping[str, Mapping[str, Interval]]
    """Metrics of the examples that train does not have, by method; empty where there is no leak, or nothing else."""
    valid: Mapping[str, float]
    """Metrics of the model on valid; empty without one."""
    gains: Mapping[str, Mapping[str, Interval]]
    """By how much the model is above a floor, by floor and metric, from the same resamples."""
    published: Published | None

    def to_json(self, leaks: Leaks) -> dict[str, Any]:
        """Return all of it as JSON; what is not defined is null."""
        return {
            "headline": self.headline,
            "test": _json(self.test),
            "without_leaks": _json(self.without_leaks),
            "valid": _json(self.valid),
            "gains": _json(self.gains),
            "published": self.published and vars(self.published),
            "leaks": {
                split: {"size": each.size} | {kind: len(each.held_out[kind]) for kind in LEAK_KINDS}
                for split, each in leaks.items()
            },
        }

    def for_mlflow(self, task: str) -> dict[str, float]:
        """Return what MLflow shows of all classes together, where it is defined.

        Names are task/NAME/METRIC, with METRIC_low and METRIC_high, METRIC_without_leaks and floor_METHOD_METRIC.
        """
        found: dict[str, float] = {}
        for method, measured in self.test.items():
            for metric, interval in measured.items():
                if method == MODEL:
                    found |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
                else:
                    found[f"floor_{method}_{metric}"] = interval.value
        for metric, interval in self.without_leaks.get(MODEL, {}).items():
            found[f"{metric}_without_leaks"] = interval.value
        return {f"task/{task}/{n}": value for n, value in found.items() if "/" not in n and not math.isnan(value)}


def measure_all(
    predictions: Mapping[str, Predictions],
    floors: Mapping[str, Predictions],
    leaks: Leaks,
    published: Published | None,
    draws: int,
) -> Results:
    """Measure the predictions of test, of the model and of the floors, with and without the examples that leak.

    Args:
        predictions: what the model predicts, by split.
        floors: what simple methods predict of test, by name.
        leaks: what `find_leaks` has found.
        published: the paper's figure.
        draws: resamples of each interval.
    """
    test = predictions["test"]
    methods = {MODEL: test, **floors}
    leaking = leaks["test"].all_held_out if "test" in leaks else ()
    clean = {}
    if 0 < len(leaking) < len(test):
        clean = {name: measure(each.without(leaking), draws) for name, each in methods.items()}
    check_same_examples(list(methods.values()))
    resampled = {name: resample(each, draws) for name, each in methods.items()}
    values = {name: metrics(each) for name, each in methods.items()}
    measured = {name: _intervals(values[name], resampled[name]) for name in methods}
    gains = {
        name: _intervals(_above(values[name], values[MODEL]), _above(resampled[name], resampled[MODEL]))
        for name in floors
    }
    return Results(
        headline=published.metric if published and published.metric in measured[MODEL] else HEADLINE[test.kind],
        test=measured,
        without_leaks=clean,
        valid=metrics(predictions["valid"]) if "valid" in predictions else {},
        gains=gains,
        published=published,
    )


def _intervals(values: Mapping[str, float], resampled: Mapping[str, Values]) -> dict[str, Interval]:
    return {name: interval_of(value, resampled[name]) for name, value in values.items()}


def _above(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {name: second[name] - first[name] for name in first}


def _json(value: Any) -> Any:
    if isinstance(value, Interval):
        return {key: _json(number) for key, number in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: _json(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
