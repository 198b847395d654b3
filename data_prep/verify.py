"""Proof that a store or a folder of shards is what its writer wrote, and that its splits are what they should be."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.damage import bad_part
from data_prep.splits import check_disjoint
from data_prep.verify_shards import verify_shards
from data_prep.verify_zarr import verify_zarr
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.fingerprint import fingerprint
from hyena_dist.data.store.manifest import MANIFEST, SHARDS_FORMAT, SPLITS, read_manifest
from hyena_dist.errors import UserError
from hyena_dist.system.processes import usable_cores
from hyena_dist.tracking.work_progress import Say


def verify_store(path: Path, *, against: Path | None = None, processes: int | None = None, say: Say = print) -> None:
    """Check every file of a store or a folder of shards against its manifest, and the parts against each other.

    `verify_zarr` says what is checked of a store, and `verify_shards` what is checked of shards. Of both, the regions
    and intervals of the splits are checked: that they are inside the contigs, fit together and do not overlap.

    Args:
        path: the folder.
        against: the store whose tokens shards must have; None compares with none.
        processes: how many processes work at a time; as many as there are cores by default.
        say: receives a line for each contig or tar and each bad file, and the summary.

    Raises:
        UserError: A file or part is bad; the error names the first and says how many are bad.
    """
    manifest = read_manifest(path)
    try:
        if manifest["format"] == SHARDS_FORMAT:
            done = verify_shards(path, manifest, against, processes or usable_cores(), say)
        elif against:
            raise UserError(f"--against is for shards, and {path} is a store; leave it out")
        else:
            done = verify_zarr(path, manifest, processes or usable_cores(), say)
        _verify_splits(path, manifest)
    except (KeyError, TypeError) as error:
        raise bad_part(manifest, path / MANIFEST, f"is damaged ({error!r})") from error
    say(f"verified: {done}, {manifest['contigs']:,} contigs, {manifest['bases']:,} bases")


def _verify_splits(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise UserError if the splits leave the contigs, overlap, or are not made up of their intervals.

    The fingerprint, too, must be that of contigs, splits and intervals.
    """
    store = GenomeStore.open(folder)
    end = store.contigs.offset[-1]
    for split in SPLITS:
        for regions in (store.splits[split], store.intervals[split]):
            start, stop = regions.ranges
            inside = (start >= 0) & (start < stop) & (stop <= end)
            inside[inside] &= store.contigs.at(start[inside]) == store.contigs.at(stop[inside] - 1)
            if not inside.all():
                row = int(np.argmin(inside))
                where = f"{split} interval {start[row]}-{stop[row]}, counted over all contigs, of {folder}"
                raise bad_part(manifest, where, "is not inside a contig")
        # The regions are the intervals merged, so that no interval leaves its split.
        if store.intervals[split].merged() != store.splits[split]:
            raise bad_part(manifest, f"the {split} intervals of {folder}", "do not make up the regions of that split")
    check_disjoint(store.splits)
    if fingerprint(store.contigs, store.splits, store.intervals) != store.fingerprint:
        raise bad_part(manifest, folder / MANIFEST, "has the fingerprint of other content")
