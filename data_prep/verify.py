"""Proof that a store or a folder of shards is what its writer wrote, and that its splits are what they should be."""

from pathlib import Path
from typing import Any

from data_prep.damage import bad_part
from data_prep.splits import check_disjoint, merge
from data_prep.verify_shards import verify_shards
from data_prep.verify_zarr import verify_zarr
from hyena_dist.data.store.manifest import MANIFEST, SHARDS_FORMAT, SPLITS, by_split, read_manifest
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
        _verify_splits(path, manifest)
        if manifest["format"] == SHARDS_FORMAT:
            done = verify_shards(path, manifest, against, processes or usable_cores(), say)
        elif against:
            raise UserError(f"--against is for shards, and {path} is a store; leave it out")
        else:
            done = verify_zarr(path, manifest, processes or usable_cores(), say)
    except (KeyError, TypeError) as error:
        raise bad_part(manifest, path / MANIFEST, f"is damaged ({error!r})") from error
    bases = sum(contig["length"] for contig in manifest["contigs"])
    say(f"verified: {done}, {len(manifest['contigs'])} contigs, {bases:,} bases")


def _verify_splits(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise UserError if the splits leave the contigs, overlap, or are not made up of their intervals."""
    lengths = {contig["name"]: contig["length"] for contig in manifest["contigs"]}
    splits = by_split(manifest["splits"])
    intervals = by_split(manifest["intervals"])
    for split in SPLITS:
        for region in (*splits[split], *intervals[split]):
            if not 0 <= region.start < region.end <= lengths.get(region.contig, 0):
                raise bad_part(manifest, f"{split} interval {region} of {folder}", "is not inside a contig")
        # The regions are the intervals merged, so that no interval leaves its split.
        if merge(intervals[split], lengths) != splits[split]:
            raise bad_part(manifest, f"the {split} intervals of {folder}", "do not make up the regions of that split")
    check_disjoint(splits)
