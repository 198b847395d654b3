"""WebDataset shards of a store: plain tars of windows, for object stores and for streaming."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from data_prep.output import existing_manifest
from data_prep.partial import PartialFolder, sync, write_durably
from data_prep.progress import WorkProgress
from data_prep.workers import Report, cores, run_tasks
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import MANIFEST, SHARD_INDEX, SHARDS_FORMAT, SPLITS, Interval
from hyena_dist.errors import UserError

_TAR_BLOCK = 512
_SAMPLE_OVERHEAD = 4 * _TAR_BLOCK  # two tar headers, the .npy header and the JSON, each filled up to a block
_RECORDS = "tars"
"""Folder of the records of complete tars, in the folder of unfinished work."""


@dataclass(frozen=True)
class ShardOptions:
    """How a store is cut into shards.

    Attributes:
        window: bases in one sample, at least 2; the last of each range may be shorter.
        megabytes: size of one tar, about, in units of 2^20 bytes.
    """

    window: int = 2**20 + 1
    megabytes: int = 256

    def __post_init__(self) -> None:
        if self.window < 2:
            raise UserError(f"shard window {self.window} has no next token to predict; use 2 bases or more")
        if self.megabytes < 1:
            raise UserError(f"shard size {self.megabytes} MB is too small; use 1 or more")


class Sample(NamedTuple):
    """One window in a tar; a row of the shard index.

    Attributes:
        key: name of the sample, without an extension.
        contig: the window's contig.
        start: its first base.
        end: the base after its last.
        offset: where its tokens begin in the tar, in bytes; they are plain, one byte each.
        crc32c: of the tokens.
    """

    key: str
    contig: str
    start: int
    end: int
    offset: int
    crc32c: int


class _Shard(NamedTuple):
    """A tar to write: its name, and the windows that belong in it, numbered over the split from `first`."""

    path: str
    split: str
    first: int
    windows: Sequence[Interval]


def write_shards(
    source: Path | str,
    out: Path,
    options: ShardOptions | None = None,
    *,
    overwrite: bool = False,
    processes: int | None = None,
    command: str = "",
    say: Callable[[str], object] = print,
) -> bool:
    """Write the shards of a store into the folder `out`.

    Work goes into the folder `out`.partial, whose content becomes `out` when it is complete. A run that was killed or
    failed leaves it, and the next one for the same store and options keeps the tars that are complete. The same store
    and options give the same bytes, but for `command` and `created` in the manifest.

    Args:
        source: the store.
        out: absent or empty, or shards of the same store with the same options, which are kept.
        options: window and size of the tars.
        overwrite: replace `out` if it is a store or shards, and discard unfinished work on something else. Anything
            else is never replaced.
        processes: how many at a time; as many as there are cores by default.
        command: for the manifest, how the shards were asked for.
        say: receives lines of text for the user.

    Returns:
        True if they were written, False if `out` was there already.

    Raises:
        UserError: no store or a damaged one, an `out` that holds something else, or no space left.
    """
    options = options or ShardOptions()
    store = GenomeStore.open(source)
    out = out.resolve()
    if out == Path(source).resolve():
        raise UserError(f"{out} is the store itself, which the shards are read from; choose another folder with --out")
    described = {**store.manifest["options"], "shard_window": options.window, "shard_megabytes": options.megabytes}
    existing = existing_manifest(out)
    if existing and not overwrite:
        _check_existing(out, existing, store.manifest, described)
        say(f"{out} already holds the shards of {source} with the same options: kept")
        return False
    shards = list(_plan(store, options))
    partial = PartialFolder(out)
    try:
        with partial.locked():
            inputs = [{"species": None, "name": Path(source).name}]
            plan = {"inputs": inputs, "fingerprint": store.fingerprint, "shards": described}
            partial.begin(plan, discard=overwrite, say=say)
            tars, index = _write_tars(store, shards, partial, processes or cores(), say)
            text = json.dumps(index) + "\n"
            (partial.store / SHARD_INDEX).write_text(text, encoding="utf-8")
            manifest = {
                **{key: value for key, value in store.manifest.items() if key != "zarr"},
                "format": SHARDS_FORMAT,
                "command": command,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "options": described,
                "shards": tars,
                "shard_index": {
                    "path": SHARD_INDEX,
                    "bytes": len(text),
                    "sha256": hashlib.sha256(text.encode()).hexdigest(),
                },
            }
            sync(partial.store / SHARD_INDEX)
            write_durably(partial.store / MANIFEST, manifest)
            partial.install()
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); free some space, after which the same command "
            f"goes on where this ended, or choose another folder with --out"
        ) from error
    say(f"wrote {out}: {len(tars)} tars, {sum(len(samples) for samples in index.values())} samples")
    return True


def windows_in(region: Interval, window: int) -> Iterator[Interval]:
    """Cut a region into windows of `window` bases; the last may be shorter.

    Neighbours share one base: the last of a window is only a target of the next-token loss, so it is also the first
    of the next window, as an input.
    """
    for start in range(region.start, max(region.end - 1, region.start + 1), window - 1):
        yield Interval(region.contig, start, min(start + window, region.end))


def _plan(store: GenomeStore, options: ShardOptions) -> Iterator[_Shard]:
    """The tars of all splits. Those of train hold all that training may read at any length: the free ranges."""
    free = [region for regions in store.free.values() for region in regions]
    for split in SPLITS:
        regions = free if split == "train" else store.splits[split]
        tars: list[list[Interval]] = []
        room = 0
        for window in (window for region in regions for window in windows_in(region, options.window)):
            size = window.end - window.start + _SAMPLE_OVERHEAD
            if size > room:
                tars.append([])
                room = options.megabytes * 2**20
            tars[-1].append(window)
            room -= size
        first = 0
        for number, windows in enumerate(tars):
            yield _Shard(f"{split}-{number:06d}.tar", split, first, windows)
            first += len(windows)


def _check_existing(out: Path, existing: Mapping[str, Any], source: Mapping[str, Any], options: dict[str, Any]) -> None:
    fix = "choose another folder with --out, or replace it with --overwrite"
    if existing["format"] != SHARDS_FORMAT:
        raise UserError(f"{out} holds a store and not shards; {fix}")
    for key, value in options.items():
        if existing["options"].get(key) != value:
            raise UserError(f"{out} holds shards made with {key} {existing['options'].get(key)!r} not {value!r}; {fix}")
    if any(existing[key] != source[key] for key in ("contigs", "splits", "intervals")):
        raise UserError(f"{out} holds the shards of another store; {fix}")
    for file in (*existing["shards"], existing["shard_index"]):
        with suppress(FileNotFoundError):
            if (out / file["path"]).stat().st_size == file["bytes"]:
                continue
        raise UserError(f"{out / file['path']} is missing or truncated; write the shards again with --overwrite")


def _write_tars(
    store: GenomeStore, shards: Sequence[_Shard], partial: PartialFolder, processes: int, say: Callable[[str], object]
) -> tuple[list[dict[str, Any]], dict[str, list[Sample]]]:
    """Write the tars that are not there yet; returns the manifest's list of all of them, and the index."""
    partial.store.mkdir(exist_ok=True)
    (partial.folder / _RECORDS).mkdir(exist_ok=True)
    todo = [shard for shard in shards if not _read_record(partial, shard)]
    if len(todo) < len(shards):
        say(f"keeping {len(shards) - len(todo)} of {len(shards)} tars of an earlier run")

    def write(shard: _Shard, report: Report) -> None:
        record = _write_tar(store, shard, partial.store / shard.path, report)
        write_durably(_record(partial, shard), record)

    with WorkProgress("writing shards", sum(w.end - w.start for shard in todo for w in shard.windows)) as progress:
        run_tasks(write, todo, processes, progress.advance)
    done = [(shard, _read_record(partial, shard)) for shard in shards]
    tars = [{"path": shard.path, "split": shard.split, **record["tar"]} for shard, record in done]
    return tars, {shard.path: record["samples"] for shard, record in done}


def _record(partial: PartialFolder, shard: _Shard) -> Path:
    """The file that says that a tar is complete, and what is in it."""
    return partial.folder / _RECORDS / f"{shard.path}.json"


def _read_record(partial: PartialFolder, shard: _Shard) -> dict[str, Any]:
    """What is in a tar; empty if the tar is not complete."""
    try:
        record: dict[str, Any] = json.loads(_record(partial, shard).read_text(encoding="utf-8"))
        return record if (partial.store / shard.path).stat().st_size == record["tar"]["bytes"] else {}
    except FileNotFoundError:
        return {}


def _write_tar(store: GenomeStore, shard: _Shard, file: Path, report: Report) -> dict[str, Any]:
    """Write a tar, and return its record."""
    digest, size, samples = hashlib.sha256(), 0, []
    with file.open("wb") as stream:

        def write(*parts: bytes | memoryview) -> None:
            nonlocal size
            for part in parts:
                stream.write(part)
                digest.update(part)
                size += len(part)

        for number, window in enumerate(shard.windows, start=shard.first):
            key = f"{shard.split}-{number:08d}"
            tokens = store.read(*window)
            array = io.BytesIO()
            np.lib.format.write_array(array, tokens, version=(1, 0))
            offset = size + _TAR_BLOCK + array.tell() - tokens.size
            about = {**window._asdict(), "species": store.species_of(window.contig), "split": shard.split}
            write(*_member(f"{key}.tokens.npy", array.getbuffer()), *_member(f"{key}.json", json.dumps(about).encode()))
            samples.append(Sample(key, *window, offset, google_crc32c.value(tokens)))
            report(tokens.size)
        write(bytes(2 * _TAR_BLOCK), bytes(-(size + 2 * _TAR_BLOCK) % tarfile.RECORDSIZE))
    sync(file)
    return {"tar": {"bytes": size, "sha256": digest.hexdigest(), "samples": len(samples)}, "samples": samples}


def _member(name: str, content: bytes | memoryview) -> tuple[bytes, bytes | memoryview, bytes]:
    """A file in a tar: header, content and padding."""
    header = tarfile.TarInfo(name)  # owner, group and time are 0, so that the tar depends on its content only
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % _TAR_BLOCK)
