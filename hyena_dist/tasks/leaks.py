"""Leaks: sequences of valid and test that train has too, by which a metric praises memory.

A leak is `exact` (the same bases), `reverse_complement` (the same on the other strand), or `near`: the sets of K-mers
of both, each k-mer and its reverse complement counted as one, have a Jaccard similarity of SIMILARITY or more. Between
sequences of the same length that means that two thirds of their k-mers are shared: one is the other moved by up to a
third, or at most about one base in 28 differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.tasks.kmer_sets import K, similar_pairs
from hyena_dist.tasks.labelled import SPLITS, Examples, LabelledData
from hyena_dist.tasks.strands import hashes
from hyena_dist.tracking.work_progress import Say

SIMILARITY = 0.5
"""Jaccard similarity of sets of k-mers from which on two sequences are near-duplicates."""

LeakKind = Literal["exact", "reverse_complement", "near"]
LEAK_KINDS: tuple[LeakKind, ...] = ("exact", "reverse_complement", "near")
"""Kinds of leaks, the worst first; a sequence counts once, as the worst."""


@dataclass(frozen=True)
class SplitLeaks:
    """The leaks of one split, valid or test, to train; of test also to valid, if that was cut from train.

    Indices in train go on in valid: len(train) is the first one there.
    """

    held_out: Mapping[LeakKind, NDArray[np.int64]]
    """Ascending indices in the split of the sequences that leak, by kind; each index in one kind alone."""
    train: Mapping[LeakKind, NDArray[np.int64]]
    """An index in train for each of `held_out`: the first one of the same sequence, or the most similar one."""
    all_train: NDArray[np.int64]
    """Ascending indices of all in train that are a leak of this split: what `on_leaks: drop` leaves out."""
    size: int
    """Number of sequences of the split."""

    @property
    def all_held_out(self) -> NDArray[np.int64]:
        """Ascending indices in the split of all that leak, of whatever kind; metrics without leaks leave them out."""
        return np.sort(np.concatenate([self.held_out[kind] for kind in LEAK_KINDS]))


Leaks = Mapping[str, SplitLeaks]
"""The leaks by split: "test", and "valid" where there is one."""


def find_leaks(data: LabelledData) -> Leaks:
    """Return the leaks of valid and test to train."""
    train, valid, test = (data.splits.get(name) for name in SPLITS)
    assert train is not None
    leaks = {} if valid is None else {"valid": leaks_between(valid, train)}
    if test is not None:
        known = _joined(train, valid) if valid is not None and data.valid_from_train else train
        leaks["test"] = leaks_between(test, known)
    return leaks


def settle_leaks(data: LabelledData, on_leaks: Literal["drop", "refuse"], say: Say) -> LabelledData:
    """Return a set whose splits do not leak.

    What leaks is left out of train (and of valid, if that was cut from it), never of test, whose figures are to be
    those of the test set that everybody has.

    Raises:
        UserError: `on_leaks` is refuse, and they do.
    """
    leaks = find_leaks(data)
    leaking = np.unique(np.concatenate([each.all_train for each in leaks.values()]))
    if not leaking.size:
        return data
    lines = "; ".join(describe_leaks(leaks))
    if on_leaks == "refuse":
        raise UserError(
            f"splits leak, which task.data.on_leaks=refuse forbids: {lines}; set drop to leave {leaking.size:,} "
            f"sequences out of train, or warn to keep them"
        )
    train = data.splits["train"]
    say(f"left {leaking.size:,} sequences out of train, because they leak: {lines}")
    kept = {"train": train.take(np.setdiff1d(np.arange(len(train)), leaking))}
    if data.valid_from_train:
        valid = data.splits["valid"]
        kept["valid"] = valid.take(np.setdiff1d(np.arange(len(valid)), leaking - len(train)))
    return replace(data, splits={**data.splits, **kept}, fingerprint=f"{data.fingerprint}-without-leaks")


def describe_leaks(leaks: Leaks) -> list[str]:
    """Return a sentence for each split that says how many of its sequences train has too."""
    lines = []
    for name, each in leaks.items():
        exact, turned, near = (each.held_out[kind].size for kind in LEAK_KINDS)
        lines.append(
            f"{exact + turned + near:,} of {each.size:,} {name} sequences are in train: {exact:,} exact, {turned:,} "
            f"reverse-complement, {near:,} near-duplicate (a Jaccard similarity of {K}-mers of {SIMILARITY:g} or more)"
        )
    return lines


def leaks_between(held_out: Examples, train: Examples) -> SplitLeaks:
    """Return which of the held-out sequences train has too."""
    written, either = hashes(held_out)
    train_written, train_either = hashes(train)
    exact = _first_index(written, train_written)
    turned = np.where(exact < 0, _first_index(either, train_either), -1)
    # Near-duplicates are looked for among distinct sequences.
    _, ours_at, ours_of = np.unique(either, return_index=True, return_inverse=True)
    _, theirs_at, theirs_of = np.unique(train_either, return_index=True, return_inverse=True)
    i, j, similarity = similar_pairs(held_out.take(ours_at), train.take(theirs_at), SIMILARITY)
    most = np.full(ours_at.size, -1)
    order = np.lexsort((-theirs_at[j], similarity))  # the last one written is the most similar, then the first of these
    most[i[order]] = theirs_at[j[order]]
    near = np.where((exact < 0) & (turned < 0), most[ours_of], -1)
    partners: dict[LeakKind, NDArray[np.int64]] = {"exact": exact, "reverse_complement": turned, "near": near}
    return SplitLeaks(
        held_out={kind: np.flatnonzero(partner >= 0) for kind, partner in partners.items()},
        train={kind: partner[partner >= 0] for kind, partner in partners.items()},
        all_train=np.flatnonzero(np.isin(train_either, either) | np.isin(theirs_of, j)),
        size=len(held_out),
    )


def _joined(train: Examples, valid: Examples) -> Examples:
    """Return the sequences of train and, behind them, of valid, without labels."""
    size = len(train)
    return Examples(
        [*train.names, *valid.names],
        np.concatenate([train.lengths, valid.lengths]),
        np.zeros(size + len(valid)),
        lambda i: train.read(i) if i < size else valid.read(i - size),
    )


def _first_index(wanted: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the first index of each hash among others, or -1."""
    values, first = np.unique(among, return_index=True)
    at = np.minimum(np.searchsorted(values, wanted), values.size - 1)
    return np.where(values[at] == wanted, first[at], -1)
