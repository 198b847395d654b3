"""Writing of a store's WebDataset shards: plain tars of windows, for object stores and for streaming."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.damage import known_files, known_tars, wrong_size
from data_prep.index_writer import write_columns
from data_prep.output import check_replaceable, existing_manifest
from data_prep.partial import PartialFolder, write_json
from data_prep.shard_tar import SAMPLE_OVERHEAD, Shard, write_tar
from data_prep.workers import Report, run_tasks
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import INDEX, MANIFEST, SAMPLES, SHARDS_FORMAT, SPLITS
from hyena_dist.data.store.ranges import Ranges
from hyena_dist.data.store.soft_mask import MASK
from hyena_dist.errors import UserError
from hyena_dist.system.files import sync
from hyena_dist.system.processes import usable_cores
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress

_NOT_IN_SHARDS = ("place", MASK)
"""Arrays of a store's index that its shards lack."""
_RECORDS = "tars"
"""Folder of the records of complete tars, inside the folder of unfinished work."""


@dataclass(frozen=True)
class ShardOptions:
    """The sizes into which a store is cut to make shards.

    Attributes:
        window: bases in one sample, at least 2; the last sample of each range may be shorter.
        megabytes: about the size of one tar, in units of 2^20 bytes.

    Raises:
        UserError: A number is too small.
    """

    window: int = 2**20 + 1
    megabytes: int = 256

    def __post_init__(self) -> None:
        if self.window < 2:
            raise UserError(f"shard window {self.window} has no next token to predict; use 2 bases or more")
        if self.megabytes < 1:
            raise UserError(f"shard size {self.megabytes} MB is too small; use 1 or more")


def write_shards(
    source: Path | str,
    out: Path,
    options: ShardOptions | None = None,
    *,
    overwrite: bool = False,
    processes: int | None = None,
    command: str = "",
    say: Say = print,
) -> bool:
    """Write the shards of a store into the folder `out`.

    Work goes into the folder `out`.partial, whose content becomes `out` when it is complete. A run that was killed or
    failed leaves it, and the next one for the same store and options keeps the tars that are complete. The same store
    and options give the same bytes, but for `command` and `created` in the manifest.

    Args:
        source: folder of the store.
        out: folder of the shards; it must be absent or empty, or hold shards of the same store with the same options,
            which are kept.
        options: sizes of windows and tars; None takes the defaults.
        overwrite: whether to replace `out` if it is a store or shards, and to discard unfinished work on something
            else. Any other content of `out` is never replaced.
        processes: how many processes work at a time; as many as there are cores by default.
        command: the command that asked for the shards, for the manifest.
        say: receives lines of text for the user.

    Returns:
        True if the shards were written, False if they were there already.

    Raises:
        UserError: There is no store or it is damaged, `out` holds something else, or no space is left.
    """
    options = options or ShardOptions()
    store = GenomeStore.open(source)
    check_local(out)
    out = out.resolve()
    if out == Path(source).resolve():
        raise UserError(f"{out} is the store itself, which the shards are read from; choose another folder with --out")
    described = {**store.manifest["options"], "shard_window": options.window, "shard_megabytes": options.megabytes}

    def is_written() -> bool:
        """Tell whether `out` holds these shards already, and raise UserError if it holds others."""
        existing = existing_manifest(out)
        if not existing or overwrite:
            return False
        _check_existing(out, existing, store.manifest, described)
        say(f"{out} already holds the shards of {source} with the same options: kept")
        return True

    if is_written():  # without the lock, since shards that are there may be in a folder that nobody may write to
        return False
    shards = list(_plan(store, options))
    partial = PartialFolder(out)
    try:
        with partial.locked():
            if is_written():  # by a command that this one has waited for
                return False
            inputs = [{"species": None, "name": Path(source).name}]
            plan = {"inputs": inputs, "fingerprint": store.fingerprint, "shards": described}
            partial.begin(plan, discard=overwrite, say=say)
            tars, samples = _write_tars(store, shards, partial, processes or usable_cores(), say)
            columns = {name: store.index[name] for name in store.index.names if name not in _NOT_IN_SHARDS}
            files = write_columns(partial.store, {**columns, SAMPLES: samples})
            manifest = {
                **{key: value for key, value in store.manifest.items() if key != "zarr"},
                "format": SHARDS_FORMAT,
                "command": command,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "options": described,
                "shards": tars,
                "files": files,
            }
            for path in (*(partial.store / path for path in files), partial.store / INDEX):
                sync(path)
            write_json(partial.store / MANIFEST, manifest)
            check_replaceable(out, overwrite)
            partial.install()
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); free some space, after which the same command "
            f"goes on where this ended, or choose another folder with --out"
        ) from error
    say(f"wrote {out}: {len(tars)} tars, {samples.size} samples")
    return True


def windows_in(regions: Ranges, window: int) -> Ranges:
    """Cut regions into windows of `window` bases, of which the last of each may be shorter.

    Neighbours share one base: the last base of a window is only a target of the next-token loss, so it is also the
    first base of the next window, as an input.
    """
    # All but the last base of a region are inputs, and each window has one base more than it has inputs.
    inputs = Ranges(regions.start, np.maximum(regions.end - 1, regions.start + 1)).cut(window - 1)
    alone = np.isin(inputs.start, regions.start[regions.size == 1])  # a region of one base is a window
    return Ranges(inputs.start, inputs.end + ~alone)


def _plan(store: GenomeStore, options: ShardOptions) -> Iterator[Shard]:
    """Yield the tars of all splits; those of train hold all that training may read at any length, the free ranges."""
    number = 0
    for split in SPLITS:
        regions = store.free if split == "train" else store.splits[split]
        windows = windows_in(regions.ranges, options.window)
        ends = np.cumsum(windows.size + SAMPLE_OVERHEAD)
        first = in_split = 0
        while first < ends.size:
            before = int(ends[first - 1]) if first else 0
            end = max(first + 1, int(np.searchsorted(ends, before + options.megabytes * 2**20, side="right")))
            path = f"{split}-{in_split:06d}.tar"
            yield Shard(number, path, split, first, Ranges(windows.start[first:end], windows.end[first:end]))
            first = end
            in_split += 1
            number += 1


def _check_existing(out: Path, existing: Mapping[str, Any], source: Mapping[str, Any], options: dict[str, Any]) -> None:
    """Raise UserError unless `out` holds complete shards of the store with these options.

    Args:
        out: folder of the shards.
        existing: its manifest.
        source: manifest of the store.
        options: options that the shards must have been made with, as the manifest has them.
    """
    fix = "choose another folder with --out, or replace it with --overwrite"
    if existing["format"] != SHARDS_FORMAT:
        raise UserError(f"{out} holds a store and not shards; {fix}")
    for key, value in options.items():
        if existing["options"].get(key) != value:
            raise UserError(f"{out} holds shards made with {key} {existing['options'].get(key)!r} not {value!r}; {fix}")
    if existing["fingerprint"] != source["fingerprint"]:
        raise UserError(f"{out} holds the shards of another store; {fix}")
    for file in (*known_files(existing), *known_tars(existing)):
        if wrong_size(out, file):
            raise UserError(f"{out / file.path} is missing or truncated; write the shards again with --overwrite")


def _write_tars(
    store: GenomeStore, shards: Sequence[Shard], partial: PartialFolder, processes: int, say: Say
) -> tuple[list[dict[str, Any]], NDArray[np.void]]:
    """Write the tars that are not there yet.

    Returns:
        The manifest's entries of all tars, and the index of their samples, SAMPLE [samples].
    """
    partial.store.mkdir(exist_ok=True)
    (partial.folder / _RECORDS).mkdir(exist_ok=True)
    todo = [shard for shard in shards if not _read_record(partial, shard)]
    if len(todo) < len(shards):
        say(f"keeping {len(shards) - len(todo)} of {len(shards)} tars of an earlier run")

    def write(shard: Shard, report: Report) -> None:
        """Write a tar, and note that it is complete."""
        tar, samples = write_tar(store, shard, partial.store / shard.path, report)
        np.save(_samples(partial, shard), samples)
        sync(_samples(partial, shard))
        write_json(_record(partial, shard), tar)

    bases = sum(int(shard.windows.size.sum()) for shard in todo)
    with WorkProgress("writing shards", bases) as progress:
        run_tasks(write, todo, processes, progress.advance)
    tars = [{"path": shard.path, "split": shard.split, **_read_record(partial, shard)} for shard in shards]
    return tars, np.concatenate([np.load(_samples(partial, shard)) for shard in shards])


def _record(partial: PartialFolder, shard: Shard) -> Path:
    """Return the path of the file that says that a tar is complete, and of what size and hash it is."""
    return partial.folder / _RECORDS / f"{shard.path}.json"


def _samples(partial: PartialFolder, shard: Shard) -> Path:
    """Return the path of the file that says what is in a tar."""
    return partial.folder / _RECORDS / f"{shard.path}.npy"


def _read_record(partial: PartialFolder, shard: Shard) -> dict[str, Any]:
    """Return the record of a tar, or an empty one if the tar is not complete."""
    try:
        record: dict[str, Any] = json.loads(_record(partial, shard).read_text(encoding="utf-8"))
        return record if (partial.store / shard.path).stat().st_size == record["bytes"] else {}
    except FileNotFoundError:
        return {}
