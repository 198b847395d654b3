"""Two ways to train on the same examples, by pairs of seeds, beside simple methods: what is better, and how surely."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from hyena_dist.tasks.bootstrap import Interval, paired_difference
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.predictions import Predictions


class Floor(NamedTuple):
    """A simple method, and by how much the second way beats it."""

    value: float
    margin: Interval
    """The metric of the second way less that of the method; beaten where the interval is above 0."""


class Comparison(NamedTuple):
    """The comparison of two ways by one metric."""

    examples: int
    before: float
    """The metric of the first way, mean over seeds."""
    after: float
    """The metric of the second way, mean over seeds."""
    gain: Interval
    """The second way's metric less the first way's, for pairs of seeds and the same examples."""
    floors: Mapping[str, Floor]

    @property
    def beaten(self) -> bool:
        """Whether the second way is above every simple method, and surely so."""
        return all(floor.margin.low > 0 for floor in self.floors.values())


def compare(
    before: Sequence[Predictions], after: Sequence[Predictions], floors: Mapping[str, Predictions], metric: str
) -> Comparison:
    """Compare two ways of predicting the same examples.

    Args:
        before: predictions of the first way, such as training from scratch, one for each seed.
        after: predictions of the second way, such as a pretrained model, its seeds in the same order.
        floors: predictions of simple methods by name.
        metric: a metric of `metrics`, of which more is better.
    """
    first, second = (fmean(metrics(each)[metric] for each in way) for way in (before, after))
    # The second way, even where the first does better: to take the better one of these examples would flatter it.
    margins = {name: paired_difference([floor] * len(after), after)[metric] for name, floor in floors.items()}
    return Comparison(
        len(after[0]),
        before=first,
        after=second,
        gain=paired_difference(before, after)[metric],
        floors={name: Floor(metrics(floors[name])[metric], margin) for name, margin in margins.items()},
    )
