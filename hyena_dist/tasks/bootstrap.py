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


class Interval(NamedTuple):
    """A number and both ends of its 95 % interval, NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is claimed: both ends are on one side of 0."""
        return self.low > 0 or self.high < 0


def intervals(predictions: Predictions, draws: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return both ends of the 95 % percentile interval of each metric over resamples of the examples."""
    found = [_metrics(predictions, counts) for counts in _resamples(predictions, draws, seed)]
    return {name: _ends(np.concatenate([block[name] for block in found])) for name in found[0]}


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
    for each in (*first, *second):
        if list(each.names) != list(first[0].names) or not np.array_equal(
            each.labels, first[0].labels, equal_nan=each.labels.dtype.kind == "f"
        ):
            raise ValueError("differences are paired: predict the same examples in the same order")
    once = np.ones((len(first[0]), 1), dtype=np.int32)
    pairs = list(zip(first, second, strict=True))
    values = _differences(pairs, once)
    found = [_differences(pairs, counts) for counts in _resamples(first[0], draws, seed)]
    weights = _weights_of_pairs(len(pairs), draws, seed)
    result = {}
    for name, value in values.items():
        resampled = np.concatenate([block[name] for block in found], axis=1)
        result[name] = Interval(float(value.mean()), *_ends((weights * resampled).sum(0)))
    return result


def _differences(pairs: Sequence[tuple[Predictions, Predictions]], counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the differences of each pair in each resample by metric, [pairs, D]."""
    before = [_metrics(predictions, counts) for predictions, _ in pairs]
    after = [_metrics(predictions, counts) for _, predictions in pairs]
    return {name: np.stack([b[name] - a[name] for a, b in zip(before, after, strict=True)]) for name in before[0]}


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


def _resamples(predictions: Predictions, draws: int, seed: int) -> Iterator[Counts]:
    """Yield how often each resample has each example, [N, D], in blocks of resamples."""
    examples = len(predictions)
    size = max(1, _BLOCK // max(1, len(predictions.labels)))
    random = np.random.default_rng((seed, 0))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        drawn = random.integers(examples, size=(examples, count)) * count + np.arange(count)
        yield np.bincount(drawn.ravel(), minlength=examples * count).reshape(examples, count).astype(np.int32)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
