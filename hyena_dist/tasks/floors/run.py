"""run_floors, which fits simple methods on train and lets them predict test."""

from collections.abc import Sequence
from pathlib import Path

from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.predictions import Predictions

FLOORS = ("majority", "kmer", "onehot", "cnn")


def run_floors(
    data: LabelledData, which: Sequence[str] = ("majority", "kmer"), cache: Path | None = None, seed: int = 0
) -> dict[str, Predictions]:
    """Fit each method of FLOORS in `which` on train, choose on valid, and return its predictions of test by name.

    Args:
        data: with splits train and test; without valid, a tenth of train chooses settings.
        which: majority (the shares of the classes, or the mean), kmer (frequencies of 5-mers, logistic regression or
            ridge), onehot (the 80 bases in the middle, likewise), cnn (the baseline of GenomicBenchmarks).
        cache: folder of predictions of earlier calls, by fingerprint of the data: runs of other seeds find them there.
        seed: draws the CNN's weights and the order of its batches.

    Raises:
        UserError: there is no method of that name.
    """
    raise NotImplementedError
