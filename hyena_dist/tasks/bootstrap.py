"""Bootstrap intervals: of metrics, and of the difference between two ways of predicting the same examples."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.resampled import METRICS, Counts, Values

_BLOCK = 2**20
"""Rows times resamples that are counted at once: what fits into caches is fastest."""
_MOST_WORK = 4 * 10**9
"""Rows times classes times resamples that take about four minutes; of more there are fewer resamples."""
_LEAST_DRAWS = 50


class Interval(NamedTuple):
    """A number and both ends of its 95 % interval, NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is claimed: both ends are on one side of 0."""
        return self.low > 0 or self.high < 0


def resample(predictions: Predictions, draws: int = 1000, seed: int = 0) -> dict[str, Values]:
    """Return each metric in each of many resamples of the examples, [draws]; fewer of very many examples.

    Resamples of predictions for the same examples are the same, by the seed, and can be compared one by one.
    """
    found = [_metrics(predictions, counts) for counts in _counts(predictions, draws, seed)]
    return {name: np.concatenate([block[name] for block in found]) for name in found[0]}


def interval_of(value: float, resampled: Values) -> Interval:
    """Return a number with its 95 % percentile interval over resamples, of those in which it is defined; [D]."""
    defined = resampled[np.isfinite(resampled)]
    low, high = np.percentile(defined, [2.5, 97.5]).tolist() if defined.size else (math.nan, math.nan)
    return Interval(value, low, high)


def paired_difference(
    first: Sequence[Predictions], second: Sequence[Predictions], draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return by how much the metrics of `second` are higher than those of `first`, for the same examples.

    Every resample draws examples, the same ones for all predictions, and pairs of seeds; a mean over S of S drawn pairs
    varies too little by (S - 1) / S, which is made up for. With one pair the interval tells of the examples alone.

    Args:
        first: predictions of one way for the same examples, one for each seed.
        second: predictions of the other way, its seeds in the same order.
        draws: number of resamples.
        seed: what the resamples are drawn from.

    Raises:
        ValueError: the predictions are not of the same examples, or not in pairs.
    """
    check_same_examples([*first, *second])
    pairs = list(zip(first, second, strict=True))
    once = np.ones((len(first[0]), 1), dtype=np.int32)
    values = [_above(_metrics(before, once), _metrics(after, once)) for before, after in pairs]
    drawn = [_above(resample(before, draws, seed), resample(after, draws, seed)) for before, after in pairs]
    found = {}
    for name in values[0]:
        resampled = np.stack([each[name] for each in drawn])
        weights = _weights_of_pairs(len(pairs), resampled.shape[1], seed)
        found[name] = interval_of(float(np.mean([each[name] for each in values])), (weights * resampled).sum(0))
    return found


def check_same_examples(predictions: Sequence[Predictions]) -> None:
    """Check that all predictions are for the same examples in the same order, so that they can be compared.

    Raises:
        ValueError: they are not.
    """
    first = predictions[0]
    for each in predictions[1:]:
        same = np.array_equal(each.labels, first.labels, equal_nan=first.labels.dtype.kind == "f")
        if not same or list(each.names) != list(first.names):
            raise ValueError("differences are paired: predict the same examples in the same order")


def _above(first: dict[str, Values], second: dict[str, Values]) -> dict[str, Values]:
    return {name: second[name] - first[name] for name in first}


def _weights_of_pairs(pairs: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return what each pair weighs in the mean of each resample, [pairs, D]."""
    drawn = np.random.default_rng((seed, 1)).multinomial(pairs, np.full(pairs, 1 / pairs), size=draws).T / pairs
    widening = math.sqrt(pairs / (pairs - 1)) if pairs > 1 else 1.0
    return 1 / pairs + widening * (drawn - 1 / pairs)


def _metrics(predictions: Predictions, counts: Counts) -> dict[str, Values]:
    """Return the metrics in resamples of the examples, which are counted in [N, D]."""
    if predictions.lengths is not None:
        counts = counts[predictions.example_of_row]  # bases of a sequence come together
    return METRICS[predictions.kind](predictions.labels, predictions.scores, counts, predictions.classes)


def _counts(predictions: Predictions, draws: int, seed: int) -> Iterator[Counts]:
    """Yield how often each resample has each example, [N, D], in blocks of resamples."""
    examples, rows = len(predictions), max(1, len(predictions.labels))
    draws = min(draws, max(_LEAST_DRAWS, _MOST_WORK // (rows * len(predictions.classes))))
    size = max(1, _BLOCK // rows)
    random = np.random.default_rng((seed, 0))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        drawn = random.integers(examples, size=(examples, count)) * count + np.arange(count)
        yield np.bincount(drawn.ravel(), minlength=examples * count).reshape(examples, count).astype(np.int32)
