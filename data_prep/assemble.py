"""The end of a build: finished parts become a store, with its index, its splits and its manifest."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.index_writer import contig_columns, split_columns, write_columns
from data_prep.output import check_replaceable
from data_prep.part import TOKENS, read_contigs, read_done
from data_prep.partial import PartialFolder, write_json
from data_prep.splits import SplitPlan, Splits, assign
from data_prep.twins import warn_of_twins
from data_prep.zarr_metadata import write_groups
from hyena_dist.data.store import manifest
from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.fingerprint import fingerprint
from hyena_dist.data.store.manifest import INDEX, MANIFEST, STORE_FORMAT, VERSION, ZARR, ZARR_CHUNK, array_path
from hyena_dist.data.tokenizer import VOCAB
from hyena_dist.errors import UserError
from hyena_dist.system.files import sync
from hyena_dist.tracking.work_progress import Say

_MOST_AMBIGUOUS = 0.1
"""Share of ambiguity codes above which a contig may be protein; assemblies have far below a thousandth."""


class Form(NamedTuple):
    """The form of the parts of a store."""

    soft_mask: bool
    """Whether they have soft masks."""
    codec: str
    """How their tokens are stored."""
    interval_length: int
    """Bases in an interval, where the splits have none of their own."""


def assemble(
    folders: Sequence[Path], partial: PartialFolder, form: Form, species: list[str], plan: SplitPlan, say: Say
) -> dict[str, Any]:
    """Put finished parts together in `partial.store`.

    This can be done again after an interruption at any moment, and with another plan.

    Args:
        folders: folders of the parts.
        partial: the folder of the build.
        form: what the parts are like.
        species: names of the species.
        plan: how to split.
        say: receives lines of text for the user.

    Returns:
        What the manifest says about the content.

    Raises:
        UserError: The plan does not fit the contigs, or a species is in no interval.
    """
    parts = [(folder, done) for folder in folders if (done := read_done(folder))]
    assert len(parts) == len(folders)
    columns = contig_columns(parts, soft_mask=form.soft_mask)
    contigs = Contigs(columns, species)
    bases = int(contigs.offset[-1])
    say(f"{len(contigs):,} contigs, {bases:,} bases")
    _warn_of_protein(contigs, np.concatenate([read_contigs(folder)["ambiguous"] for folder in folders]), say)
    splits, intervals = assign(plan, contigs, form.interval_length)
    _check_species(contigs, splits)
    counts = {
        split: {"regions": len(regions), "bases": int(regions.ranges.size.sum()), "intervals": len(intervals[split])}
        for split, regions in splits.items()
    }
    say(", ".join(f"{split} {each['bases']:,} bases in {each['regions']:,} regions" for split, each in counts.items()))
    warn_of_twins(contigs, splits, say)

    files = write_columns(partial.store, columns | split_columns(splits, intervals, form.interval_length))
    zarr = partial.store / ZARR
    (zarr / TOKENS).mkdir(parents=True, exist_ok=True)
    partial.complete()
    arrays = [(folder, done) for folder, done in parts if done.contigs]
    for number, (folder, done) in enumerate(arrays):
        array = array_path(number)
        if (folder / TOKENS).exists():  # an interrupted build has moved it otherwise
            (folder / TOKENS).rename(zarr / array)
        for path, described in done.files.items():
            if path.startswith(TOKENS):
                files[f"{ZARR}/{array}{path.removeprefix(TOKENS)}"] = described
    files |= {f"{ZARR}/{path}": described for path, described in write_groups(zarr).items()}
    index = partial.store / INDEX
    for written in (*index.iterdir(), index, *zarr.glob("**/zarr.json"), zarr / TOKENS, zarr):
        sync(written)
    return {
        "sources": [source for _, done in parts for source in done.sources],
        "species": species,
        "contigs": len(contigs),
        "bases": bases,
        "splits": counts,
        "fingerprint": fingerprint(contigs, splits, intervals),
        "zarr": {
            "path": ZARR,
            "codec": form.codec,
            "chunk": ZARR_CHUNK,
            "shard": manifest.ZARR_SHARD,
            "arrays": [done.bases for _, done in arrays],
        },
        "files": dict(sorted(files.items())),
    }


def finish(partial: PartialFolder, out: Path, content: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write the manifest, and put the store in the place of `out`.

    Args:
        partial: the folder of the build, with the rest of the store.
        out: folder of the store.
        content: what the manifest says beside its format.
        overwrite: whether to replace a store or shards.

    Raises:
        UserError: `out` has got content meanwhile that must not be replaced.
    """
    head = {
        "format": STORE_FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tokenizer": VOCAB,
    }
    write_json(partial.store / MANIFEST, {**head, **content})
    check_replaceable(out, overwrite)
    partial.install()


def _check_species(contigs: Contigs, splits: Splits) -> None:
    """Raise UserError if a species is in no split."""
    seen = np.zeros(len(contigs.species_names) + 1, bool)
    for regions in splits.values():
        seen[contigs.species[regions.contig]] = True
    for name, has in zip(contigs.species_names, seen.tolist(), strict=False):
        if not has:
            raise UserError(f"species {name!r} is in no interval; add --bed {name}=FILE, or leave its input out")


def _warn_of_protein(contigs: Contigs, ambiguous: NDArray[np.int64], say: Say) -> None:
    """Say which contigs can hardly be nucleotides, since protein may happen to have letters of IUPAC codes alone.

    Args:
        contigs: the contigs.
        ambiguous: how many letters of each are codes of two or three bases, int64 [contigs].
        say: receives a line of text.
    """
    odd = np.flatnonzero(ambiguous > _MOST_AMBIGUOUS * contigs.lengths)
    if odd.size:
        first = int(odd[0])
        more = f", like {odd.size - 1:,} more" if odd.size > 1 else ""
        say(
            f"warning: contig {contigs.name(first)!r} is {ambiguous[first] / contigs.lengths[first]:.0%} ambiguity "
            f"codes (RYSWKMBDHV), which become N, and may be protein{more}; leave protein out of the input"
        )
