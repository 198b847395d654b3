"""Brings the files of a preset, checks them, and says how to build a store of them.

Where the provider lists no checksum, the sha256 of what came is kept in checksums.json beside the files, and holds for
later runs.
"""

import gzip
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from data_prep.files import describe_file
from data_prep.preset import File, Preset, load_preset, preset_names
from data_prep.progress import WorkProgress
from hyena_dist.data.store.fetch import PIPE, Limits, NotThereError, fetch, is_remote, join
from hyena_dist.errors import UserError

CHECKSUMS = "checksums.json"
UNTRIED = "not yet tried against the real servers"
Say = Callable[[str], object]


def list_presets(say: Say = print) -> None:
    """Show the presets."""
    for preset in map(load_preset, preset_names()):
        say(f"{preset.name:12} {preset.megabytes / 1000:5.1f} GB in {len(preset.files):3} files  {preset.description}")
    say(f"sizes are about; the addresses are {UNTRIED}: --source takes a folder or URL with the same file names")


def download(
    name: str,
    out: Path | None = None,
    source: str | None = None,
    *,
    limits: Limits | None = None,
    say: Say = print,
) -> list[str]:
    """Bring the files of a preset to `out`/source. What is there already is checked and kept.

    Args:
        name: of the preset, or a YAML file of one's own.
        out: folder; data/NAME by default.
        source: folder, URL or pipe:COMMAND that has the files under their names, in place of the preset's addresses.
        limits: of patience.
        say: receives lines of text for the user.

    Returns:
        The words of the `data build` command that makes the store `out`/store.

    Raises:
        UserError: no such preset, a file that cannot be had or is not what it should be, or no space for it.
    """
    preset = load_preset(name)
    out = out or Path("data") / preset.name
    folder = out / "source"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = 1e6 * sum(file.megabytes for file in preset.files if not (folder / file.name).exists())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror or error}); choose another --out") from error
    if missing > free:
        raise UserError(
            f"{preset.name} takes about {missing / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left; "
            f"free some space or choose another folder with --out"
        )
    if not source and preset.name in preset_names():
        say(f"the addresses of preset {preset.name} are {UNTRIED}")
    lists = _Lists(source, limits)
    with WorkProgress(f"downloading {preset.name}", round(1e6 * preset.megabytes), "bytes") as progress:
        for number, file in enumerate(preset.files, start=1):
            result = _bring(file, folder, source, lists, limits, progress)
            say(f"{number}/{len(preset.files)} {file.name}: {result}")
    return _build_command(preset, folder, out / "store")


def _bring(
    file: File, folder: Path, source: str | None, lists: "_Lists", limits: Limits | None, progress: WorkProgress
) -> str:
    """Bring one file, unless it is there; returns what was found about it."""
    target, kept = folder / file.name, _read_notes(folder).get(file.name)
    if kept:
        algorithm, expected = "sha256", kept["sha256"]
    else:
        algorithm, expected = lists.checksum(file)
    if target.exists():
        result = "is there"
        progress.advance(target.stat().st_size)
    else:
        checks = {algorithm: expected} if algorithm else {}
        fetch(_place(file, source), target, limits=limits, on_bytes=progress.advance, **checks)
        result = "fetched"
    found = describe_file(target)
    if algorithm and _digest(target, algorithm, found["sha256"]) != expected:
        raise UserError(
            f"{target} is not what it should be (its {algorithm} is not {expected}); "
            f"delete it, and the same command fetches it again"
        )
    if not kept:
        _write_notes(folder, {**_read_notes(folder), file.name: {"bytes": found["bytes"], "sha256": found["sha256"]}})
    checked = f"{algorithm} as expected" if algorithm else f"not checked, since {expected}; kept in {CHECKSUMS}"
    return f"{result}, {found['bytes']:,} bytes, sha256 {found['sha256']} ({checked})"


def _digest(file: Path, algorithm: str, sha256: str) -> str:
    if algorithm == "sha256":
        return sha256
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _place(file: File, source: str | None) -> str:
    """Where to fetch a file from."""
    place = join(source, file.name) if source else file.url
    return place if is_remote(place) else _local(place)


def _local(path: str) -> str:
    if not Path(path).is_file():
        raise NotThereError(f"{path} is not there; give a --source that has the files under the names of the preset")
    return f"{PIPE}cat {shlex.quote(path)}"


class _Lists:
    """The providers' lists of checksums, each fetched once.

    Args:
        source: as for `download`; its lists lie beside the files.
        limits: of patience.
    """

    def __init__(self, source: str | None, limits: Limits | None) -> None:
        self._source, self._limits = source, limits
        self._fetched: dict[str, str] = {}

    def checksum(self, file: File) -> tuple[str, str]:
        """Return an algorithm of hashlib and the digest, or "" and why there is none."""
        if file.checksum == "unknown":
            return "", "no checksum is known"
        if file.checksum.startswith(("md5:", "sha256:")):
            algorithm, _, digest = file.checksum.partition(":")
            return algorithm, digest.lower()
        if self._source and self._source.startswith(PIPE):
            return "", "a command cannot say whether there is a list of checksums"
        place = join(self._source, file.list_name) if self._source else file.checksum
        try:
            if place not in self._fetched:
                self._fetched[place] = self._fetch(place)
        except NotThereError:
            return "", f"{place} is not there"
        for line in self._fetched[place].splitlines():
            digest, _, entry = line.strip().partition(" ")
            # Entries are relative to the list, wherever this copy of it came from.
            if urljoin(file.checksum, entry.strip().lstrip("*")) == file.url:
                return {32: "md5", 64: "sha256"}.get(len(digest), ""), digest.lower()
        return "", f"{place} does not name it"

    def _fetch(self, place: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "list"
            fetch(place if is_remote(place) else _local(place), file, limits=self._limits)
            return file.read_text(encoding="utf-8", errors="replace")


def _read_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> bytes and sha256 of the files that were fetched."""
    file = folder / CHECKSUMS
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); delete it to trust what the servers send next") from error


def _write_notes(folder: Path, notes: dict[str, dict[str, Any]]) -> None:
    unnamed = folder / f".{CHECKSUMS}.{os.getpid()}"
    unnamed.write_text(json.dumps(notes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    unnamed.replace(folder / CHECKSUMS)


def _build_command(preset: Preset, folder: Path, store: Path) -> list[str]:
    """The command that builds the store. Files of one sequence are split by the names of these."""
    words, flags, names = ["hyena-dist", "data", "build"], list(preset.build), dict[str, str]()
    held_out: dict[str, list[str]] = {"valid": [], "test": []}
    for file in preset.files:
        path, label = folder / file.name, file.species
        if file.use == "bed":
            flags += ["--bed", f"{label}={path}" if label else str(path)]
            continue
        words.append(f"{label}={path}" if label else str(path))
        if file.contig or file.split in held_out:
            found = _first_name(path)
            contig = names[found] = file.contig or found
            if file.split in held_out:
                held_out[file.split].append(f"{label}.{contig}" if label else contig)
    for split, contigs in held_out.items():
        if contigs:
            flags += [f"--{split}-contigs", ",".join(contigs)]
    if any(old != new for old, new in names.items()):
        renames = folder / "names.txt"
        renames.write_text("".join(f"{old}\t{new}\n" for old, new in names.items()), encoding="utf-8")
        flags += ["--rename", str(renames)]
    return [*words, "--out", str(store), *flags]


def _first_name(fasta: Path) -> str:
    """Name of the first sequence of a FASTA file, plain or gzip."""
    with fasta.open("rb") as raw:
        opener: Any = gzip.open if raw.read(2) == b"\x1f\x8b" else open
    try:
        with opener(fasta, "rb") as stream:
            line = stream.readline(2**16)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{fasta} is a corrupt gzip file ({error}); delete it and fetch it again") from error
    if not line.startswith(b">") or not line[1:].split():
        raise UserError(f"{fasta} does not begin with the name of a sequence; delete it and fetch it again")
    return line[1:].split()[0].decode("utf-8", "replace")
