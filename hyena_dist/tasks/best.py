"""The best evaluation of valid so far, which checkpoints remember, and the metric that says which is better."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from hyena_dist.errors import UserError
from hyena_dist.tasks.metrics import HEADLINE, metrics
from hyena_dist.tasks.predictions import Predictions

_LOWER = ("loss", "mse")
"""Metrics of which less is better."""


class Goal(NamedTuple):
    """The metric by which weights are chosen."""

    metric: str

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another; NaN is better than nothing."""
        return value < than if self.metric.split("/")[0] in _LOWER else value > than


@dataclass(frozen=True)
class Best:
    """The evaluations so far."""

    evaluated: int | None = None
    """The step of the last one."""
    step: int | None = None
    """The step of the best one, the first of equals."""
    value: float | None = None
    """What the metric was then; None where it was not defined."""
    since: int = 0
    """The evaluations after it."""

    def after(self, step: int, value: float, goal: Goal) -> "Best":
        """Return what is known after an evaluation at a step."""
        known = None if value != value else value
        if self.step is None or (known is not None and (self.value is None or goal.is_better(known, self.value))):
            return Best(step, step, known)
        return replace(self, evaluated=step, since=self.since + 1)


def choose_goal(asked: str | None, held_out: Predictions) -> Goal:
    """Return the metric by which weights are chosen: the one that is asked for, or the usual one of the kind.

    Args:
        asked: a name of `metrics`, or loss; None for the usual one.
        held_out: any predictions for valid.

    Raises:
        UserError: there is no such metric.
    """
    if asked is None:
        return Goal(HEADLINE[held_out.kind])
    known = ["loss", *metrics(held_out)]
    if asked not in known:
        raise UserError(
            f"task.best_by {asked} is no metric of {held_out.kind} labels; choose of {', '.join(known[:12])}"
        )
    return Goal(asked)
