"""Splits that a set does not have yet, cut by the hash of each sequence.

A sequence goes where its hash says, so neither the order of rows nor what else is in the set matters, and duplicates
and reverse complements stay together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config.task_data import TaskData
from hyena_dist.tasks.labelled import SPLITS

_PARTS = np.uint64(2**32)


def cut(hashes: NDArray[np.uint64], given: Sequence[str] | None, settings: TaskData) -> NDArray[np.str_]:
    """Return the split of each sequence.

    What has no test gets one from train, then what has no valid. Of `folds` parts the one of number `fold` is held
    out: as test if there was none, otherwise as valid, out of train and valid together.

    Args:
        hashes: `strands.strand_hash` of N sequences, [N].
        given: their splits in the data, if it has any.
        settings: the shares, and the folds.

    Returns:
        Texts of SPLITS, [N].
    """
    splits = np.array(["train"] * hashes.size if given is None else list(given), dtype="<U5")
    had_test = bool((splits == "test").any())
    share = (hashes // _PARTS) / 2**32
    if settings.folds:
        held_out = (hashes % _PARTS) % np.uint64(settings.folds) == settings.fold
        splits[splits == "valid"] = "train"
        splits[(splits == "train") & held_out] = "valid" if had_test else "test"
    elif not had_test:
        splits[(splits == "train") & (share < settings.test_fraction)] = "test"
        share = (share - settings.test_fraction) / (1 - settings.test_fraction)
    if not (splits == "valid").any():
        splits[(splits == "train") & (share < settings.valid_fraction)] = "valid"
    return splits


def indices(splits: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Return the ascending indices of the sequences of each split."""
    return {name: np.flatnonzero(splits == name) for name in SPLITS}
