"""Proves that a store is what its builder wrote: every file by hash, then every part against the others."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.files import describe_file
from data_prep.progress import Progress
from data_prep.shards import Sample
from data_prep.splits import check_disjoint, merge
from hyena_dist.data.manifest import MANIFEST, SHARD_INDEX, SPLITS, Interval
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import A, N
from hyena_dist.errors import UserError


class StoreFile(NamedTuple):
    """What the manifest says about a file; `path` is relative to the store."""

    path: str
    bytes: int
    sha256: str


def check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Look quickly whether every file of the store is there with its size.

    Raises:
        UserError: a file is missing or has another size.
    """
    files = list(_files(manifest))
    bad = [(file.path, reason) for file in files if (reason := _wrong_size(path, file))]
    _report_bad(path, manifest, bad, len(files))


def verify_store(path: Path, say: Callable[[str], object] = print) -> None:
    """Check every file of a store against the manifest, and the parts against each other.

    Checked are the size and hash of each file; shape, hash and range of each array; that the splits lie inside their
    contigs and are disjoint; and that each WebDataset sample, and its row in the index, equals the Zarr array and
    that the samples cover the splits.

    Args:
        path: the store's folder.
        say: receives a line for each file and contig, and the summary.

    Raises:
        UserError: naming the first bad file or part, and how many files are bad.
    """
    store = GenomeStore.open(path)
    try:
        files = list(_files(store.manifest))
        _verify_files(path, store.manifest, files, say)
        for contig in store.manifest["contigs"]:
            _verify_contig(store, contig)
            say(f"ok contig {contig['name']}")
        _verify_splits(store)
        samples = _verify_shards(store, say)
    except (KeyError, TypeError) as error:
        raise _bad(store, path / MANIFEST, f"is damaged ({error!r})") from error
    say(
        f"verified: {len(files)} files, {sum(file.bytes for file in files):,} bytes, {len(store.contigs)} contigs, "
        f"{sum(store.contigs.values()):,} bases, {samples} samples"
    )


def _files(manifest: dict[str, Any]) -> Iterator[StoreFile]:
    for name, (size, sha256) in manifest["zarr"]["files"].items():
        yield StoreFile(f"{manifest['zarr']['path']}/{name}", size, sha256)
    for file in (manifest["shard_index"], *manifest["shards"]):
        yield StoreFile(file["path"], file["bytes"], file["sha256"])


def _wrong_size(store: Path, file: StoreFile) -> str | None:
    try:
        size = (store / file.path).stat().st_size
    except OSError:
        return "is missing"
    return None if size == file.bytes else f"has {size} bytes instead of {file.bytes}"


def _verify_files(path: Path, manifest: dict[str, Any], files: list[StoreFile], say: Callable[[str], object]) -> None:
    bad: list[tuple[str, str]] = []
    with Progress("verifying files", sum(file.bytes for file in files), "bytes") as progress:
        for number, file in enumerate(files, start=1):
            reason = _wrong_size(path, file)
            if not reason and describe_file(path / file.path, progress.advance)["sha256"] != file.sha256:
                reason = "has another sha256 than the manifest says"
            if reason:
                bad.append((file.path, reason))
            say(f"{'BAD' if reason else 'ok'} {number}/{len(files)} {file.path}{f' {reason}' if reason else ''}")
    _report_bad(path, manifest, bad, len(files))


def _report_bad(path: Path, manifest: dict[str, Any], bad: list[tuple[str, str]], total: int) -> None:
    if bad:
        file, reason = bad[0]
        raise UserError(
            f"{path / file} {reason} ({len(bad)} of {total} files are bad); "
            f"rebuild the store with `{manifest['command']} --overwrite`"
        )


def _bad(store: GenomeStore, what: Path | str, reason: str) -> UserError:
    return UserError(f"{what} {reason}; rebuild the store with `{store.manifest['command']} --overwrite`")


def _verify_contig(store: GenomeStore, contig: dict[str, Any]) -> None:
    name, length = contig["name"], contig["length"]
    tokens = store.read(name, 0, length)
    if hashlib.sha256(tokens.data).hexdigest() != contig["sha256"]:
        raise _bad(store, f"contig {name!r} of {store.path}", "holds other tokens than the manifest says")
    if tokens.min() < A or tokens.max() > N:
        raise _bad(store, f"contig {name!r} of {store.path}", "holds tokens other than A, C, G, T and N")
    if store.manifest["options"]["soft_mask"]:
        masked = int(np.count_nonzero(store.soft_mask(name, 0, length)))
        if masked != contig["soft_masked"]:
            reason = f"marks {masked} bases instead of {contig['soft_masked']}"
            raise _bad(store, f"the soft mask of contig {name!r} of {store.path}", reason)


def _verify_splits(store: GenomeStore) -> None:
    for split, regions in store.splits.items():
        for region in regions:
            if not 0 <= region.start < region.end <= store.contigs.get(region.contig, 0):
                raise _bad(store, f"{split} interval {region} of {store.path}", "is not inside a contig")
    check_disjoint(store.splits)


def _verify_shards(store: GenomeStore, say: Callable[[str], object]) -> int:
    """Check all samples and return how many there are."""
    index = json.loads((store.path / SHARD_INDEX).read_text(encoding="utf-8"))
    found: dict[str, list[Interval]] = {split: [] for split in SPLITS}
    total = sum(region.end - region.start for regions in store.splits.values() for region in regions)
    with Progress("verifying samples", total) as progress:
        for shard in store.manifest["shards"]:
            samples = [Sample(*row) for row in index[shard["path"]]]
            if len(samples) != shard["samples"] or not _same_samples(store, shard, samples, progress):
                tar = store.path / shard["path"]
                raise _bad(store, tar, "does not hold the samples of the index and the Zarr arrays")
            found[shard["split"]] += [Interval(sample.contig, sample.start, sample.end) for sample in samples]
            say(f"ok samples of {shard['path']}")
    for split, regions in store.splits.items():
        if merge(found[split], store.contigs) != regions:
            raise _bad(store, f"the {split} shards of {store.path}", "do not cover the regions of that split")
    return sum(len(intervals) for intervals in found.values())


def _same_samples(store: GenomeStore, shard: dict[str, Any], samples: list[Sample], progress: Progress) -> bool:
    """Whether the tar holds exactly these samples, each with the tokens of the Zarr array at its offset."""
    with tarfile.open(store.path / shard["path"]) as tar:
        for sample in samples:
            array, description = tar.next(), tar.next()
            if not array or not description or array.name != f"{sample.key}.tokens.npy":
                return False
            content = _content(tar, array)
            tokens = np.load(io.BytesIO(content), allow_pickle=False)
            where = {"contig": sample.contig, "start": sample.start, "end": sample.end, "split": shard["split"]}
            same = (
                description.name == f"{sample.key}.json"
                and json.loads(_content(tar, description)) == where
                and sample.offset == array.offset_data + len(content) - tokens.size
                and np.array_equal(tokens, store.read(sample.contig, sample.start, sample.end))
            )
            if not same:
                return False
            progress.advance(tokens.size)
        return tar.next() is None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return stream.read() if stream else b""
