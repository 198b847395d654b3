"""Builds a store: FASTA -> Zarr arrays -> splits -> WebDataset shards -> manifest."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fasta import Record, read_fasta
from data_prep.files import describe_file
from data_prep.progress import Progress
from data_prep.shards import write_shards
from data_prep.splits import BlockSplits, SplitPlan
from data_prep.verify import check_sizes
from data_prep.zarr_store import ZarrWriter
from hyena_dist.data.manifest import FORMAT, MANIFEST, SHARD_INDEX, VERSION, ZARR, read_manifest
from hyena_dist.data.tokenizer import VOCAB
from hyena_dist.errors import UserError

Say = Callable[[str], object]


@dataclass(frozen=True)
class BuildOptions:
    """What, besides the sequences, decides a store's content.

    Attributes:
        splits: how train, valid and test are chosen.
        soft_mask: keep which bases were lower-case.
        shard_window: bases in one WebDataset sample, at least 2.
        shard_megabytes: size of one tar, about, in units of 2^20 bytes.
    """

    splits: SplitPlan = field(default_factory=BlockSplits)
    soft_mask: bool = False
    shard_window: int = 2**16 + 1
    shard_megabytes: int = 256

    def __post_init__(self) -> None:
        if self.shard_window < 2:
            raise UserError(f"shard window {self.shard_window} has no next token to predict; use 2 bases or more")
        if self.shard_megabytes < 1:
            raise UserError(f"shard size {self.shard_megabytes} MB is too small; use 1 or more")

    def describe(self) -> dict[str, Any]:
        """Return the options as JSON, for the manifest."""
        return {
            "splits": self.splits.describe(),
            "soft_mask": self.soft_mask,
            "shard_window": self.shard_window,
            "shard_megabytes": self.shard_megabytes,
        }


def build_store(
    fastas: Sequence[Path],
    out: Path,
    options: BuildOptions | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
    say: Say = print,
) -> bool:
    """Build the store `out` from FASTA files.

    The work happens in the folder `out`.partial-<pid>, which becomes `out` when it is complete and is removed when
    anything fails, so that `out` is always either what it was or a whole store.

    Args:
        fastas: FASTA files: plain, gzip or bgzip.
        out: the store's folder; it must be absent or empty, or a store built from the same input.
        options: splits and layout.
        overwrite: replace `out` if it is a store. Anything else is never replaced.
        command: for the manifest, how the store was asked for.
        say: receives lines of text for the user.

    Returns:
        True if it was built, False if `out` was there already, built from the same sequences with the same options.

    Raises:
        UserError: bad input, an `out` that holds something else, or no space left.
    """
    options = options or BuildOptions()
    described = options.describe()  # reads a BED file, so that a missing one is noticed before the long work
    out = out.resolve()
    existing = _existing_manifest(out)
    if existing and not overwrite:
        # Hashing the input, which can take a while, is of no use where no answer would let this go on.
        _check_options(out, existing, described)
    with Progress("hashing input", sum(path.stat().st_size for path in fastas if path.exists()), "bytes") as progress:
        sources = [describe_file(path, progress.advance) for path in fastas]
    if existing and not overwrite:
        _check_sources(out, existing, sources)
        check_sizes(out, existing)
        say(f"{out} is already built from the same input with the same options: kept")
        return False

    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "tokenizer": VOCAB,
            "options": described,
            "sources": sources,
            **_write(fastas, partial, options, say),
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        _install(partial, out)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}), and nothing was changed; "
            f"free some space or choose another folder with --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"built {out}")
    return True


def _existing_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest of the store at `out`, or None if `out` is absent or an empty folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        return read_manifest(out)
    except UserError as error:
        raise UserError(
            f"{out} exists and is not a store that can be read, so it is left as it is; "
            f"choose another folder with --out"
        ) from error


def _check_options(out: Path, existing: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if existing["options"].get(key) != value:
            raise UserError(
                f"{out} holds a store built with {key} {existing['options'].get(key)!r} instead of {value!r}; "
                f"choose another folder with --out, or replace it with --overwrite"
            )


def _check_sources(out: Path, existing: dict[str, Any], sources: list[dict[str, Any]]) -> None:
    if [source["sha256"] for source in existing["sources"]] != [source["sha256"] for source in sources]:
        names = ", ".join(source["name"] for source in existing["sources"])
        raise UserError(
            f"{out} holds a store built from other sequences ({names}); "
            f"choose another folder with --out, or replace it with --overwrite"
        )


def _write(fastas: Sequence[Path], store: Path, options: BuildOptions, say: Say) -> dict[str, Any]:
    """Write everything but the manifest, and return what it has to say about the content."""
    arrays = ZarrWriter(store / ZARR)
    contigs = []
    with Progress("reading FASTA") as progress:
        for record in read_fasta(fastas, progress.advance):
            arrays.write("contigs", record.name, record.tokens)
            if options.soft_mask:
                arrays.write("soft_mask", record.name, record.lower_case)
            contigs.append(_describe_contig(record))
    lengths = {contig["name"]: contig["length"] for contig in contigs}
    say(f"{len(contigs)} contigs, {sum(lengths.values()):,} bases")

    splits = options.splits.assign(lengths)
    sizes = {split: sum(region.end - region.start for region in regions) for split, regions in splits.items()}
    say(", ".join(f"{split} {sizes[split]:,} bases in {len(splits[split])} regions" for split in splits))

    with Progress("writing shards", sum(sizes.values())) as progress:
        index = write_shards(
            store, splits, arrays.read_tokens, options.shard_window, options.shard_megabytes * 2**20, progress.advance
        )
    (store / SHARD_INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")

    written = [file for file in sorted(store.rglob("*")) if file.is_file()]
    with Progress("hashing output", sum(file.stat().st_size for file in written), "bytes") as progress:

        def hashed(path: str) -> dict[str, Any]:
            file = describe_file(store / path, progress.advance)
            return {"path": path, "bytes": file["bytes"], "sha256": file["sha256"]}

        zarr_files = [hashed(str(file.relative_to(store))) for file in written if file.is_relative_to(store / ZARR)]
        shards = [
            {**hashed(path), "split": Path(path).name.split("-")[0], "samples": len(samples)}
            for path, samples in index.items()
        ]
        shard_index = hashed(SHARD_INDEX)

    return {
        "contigs": contigs,
        "splits": splits,
        "zarr": {
            "path": ZARR,
            "files": {file["path"].removeprefix(f"{ZARR}/"): [file["bytes"], file["sha256"]] for file in zarr_files},
        },
        "shards": shards,
        "shard_index": shard_index,
    }


def _describe_contig(record: Record) -> dict[str, Any]:
    return {
        "name": record.name,
        "length": record.tokens.size,
        "sha256": hashlib.sha256(record.tokens.data).hexdigest(),
        "composition": {letter: int(np.count_nonzero(record.tokens == VOCAB[letter])) for letter in "ACGTN"},
        "soft_masked": int(np.count_nonzero(record.lower_case)),
    }


def _install(partial: Path, out: Path) -> None:
    """Put the complete folder `partial` where `out` is, so that a failure leaves the old `out` there."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(f"{out.name}.old-{os.getpid()}")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
