"""The windows of held-out regions that species classification is scored on: side by side, as many of each species."""

from collections.abc import Sequence

import numpy as np

from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import Examples


def held_out_windows(
    store: GenomeStore, species: Sequence[str], split: str, length: int, max_tokens: int
) -> Examples | None:
    """Return the windows of a split as examples whose labels are their species, or None if the split is empty.

    Args:
        store: a store of labelled species.
        species: the classes.
        split: valid or test.
        length: bases of a window.
        max_tokens: bound for the bases of all windows; where there are more, evenly spaced windows of each species are
            chosen, at most as many as its equal share.

    Raises:
        UserError: a species has no window of this length there.
    """
    regions = store.splits[split]
    if not regions:
        return None
    most = max(1, max_tokens // length // len(species))
    windows, labels = [], []
    for label, name in enumerate(species):
        found = tile([region for region in regions if store.species_of(region.contig) == name], length, most)
        if not found:
            raise UserError(
                f"{split} of {store.location} has no window of {length:,} bases of {name}; shorten evaluation.lengths, "
                f"or rebuild the store with more held out"
            )
        windows += found
        labels += [label] * len(found)
    return Examples(
        names=[f"{window.contig}:{window.start}-{window.start + length}" for window in windows],
        lengths=np.full(len(windows), length, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        read=lambda index: store.read(windows[index].contig, windows[index].start, windows[index].start + length),
    )
