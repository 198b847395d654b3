"""Splits that a set does not have yet, cut by the hash of each sequence.

Distinct sequences are ordered by class and then by hash, and every so many of them are held out. So the order of rows
does not matter, each class has its share, and duplicates and reverse complements stay together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.task_data import TaskData
from hyena_dist.tasks.labelled import SPLITS


def cut(
    hashes: NDArray[np.uint64],
    given: Sequence[str] | None,
    settings: TaskData,
    strata: NDArray[np.int64] | None = None,
) -> NDArray[np.str_]:
    """Return the split of each sequence.

    What has no test gets one from train, then what has no valid. Of `folds` parts the one of number `fold` is held
    out: as test if there was none, otherwise as valid, out of train and valid together.

    Args:
        hashes: `strands.strand_hash` of N sequences, [N].
        given: their splits in the data, if it has any.
        settings: the shares, and the folds.
        strata: their classes, [N], of each of which a share is held out; all are one if not given.

    Returns:
        Texts of SPLITS, [N].
    """
    splits = np.array(["train"] * hashes.size if given is None else list(given), dtype="<U5")
    strata = np.zeros(hashes.size, np.int64) if strata is None else strata
    missing = [name for name in ("test", "valid") if not (splits == name).any()]
    if settings.folds:
        splits[splits == "valid"] = "train"
        pool = np.flatnonzero(splits == "train")
        held_out = pool[_places(hashes[pool], strata[pool]) % settings.folds == settings.fold]
        splits[held_out] = "test" if "test" in missing else "valid"
        missing = [name for name in ("valid",) if "test" in missing]
    for name in missing:
        share = settings.test_fraction if name == "test" else settings.valid_fraction
        pool = np.flatnonzero(splits == "train")
        places = _places(hashes[pool], strata[pool])
        splits[pool[np.ceil((places + 1) * share) > np.ceil(places * share)]] = name
    return splits


def _places(hashes: NDArray[np.uint64], strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of sequences among distinct ones, by stratum (the lowest that has it) and then by hash."""
    distinct, of = np.unique(hashes, return_inverse=True)
    lowest = np.full(distinct.size, np.iinfo(np.int64).max)
    np.minimum.at(lowest, of, strata)
    places = np.empty(distinct.size, np.int64)
    places[np.lexsort((distinct, lowest))] = np.arange(distinct.size)
    return places[of]


def indices(splits: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Return the ascending indices of the sequences of each split."""
    return {name: np.flatnonzero(splits == name) for name in SPLITS}
