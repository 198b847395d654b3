"""The download of a preset: its files are brought and checked, and a command is given that builds a store of them.

Where the provider lists no checksum, the sha256 of what came is kept in checksums.json beside the files, and later runs
hold to it.
"""

import hashlib
import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from data_prep.preset import File, Preset, load_preset, preset_names
from hyena_dist.data.store.fetch import PIPE, Limits, NotThereError, fetch, is_remote, join
from hyena_dist.data.text.fasta import read_fasta
from hyena_dist.data.text.files import describe_file, read_text
from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.system.locks import lock
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress

CHECKSUMS = "checksums.json"
"""Name of the file that keeps the size and sha256 of every fetched file, by its name."""
UNTRIED = "not yet tried against the real servers"


def list_presets(say: Say = print) -> None:
    """Show the presets that come with this program, with their sizes.

    Args:
        say: receives lines of text for the user.
    """
    for preset in map(load_preset, preset_names()):
        say(f"{preset.name:22} {preset.megabytes / 1000:5.1f} GB in {len(preset.files):3} files  {preset.description}")
    say(f"sizes are about; the addresses are {UNTRIED}: --source takes a folder or URL with the same file names")


def download(
    name: str,
    out: Path | None = None,
    source: str | None = None,
    *,
    limits: Limits | None = None,
    say: Say = print,
) -> list[str]:
    """Bring the files of a preset to `out`/source; files that are there already are checked and kept.

    Args:
        name: name of the preset, or path of a YAML file like those of the presets.
        out: folder for the files and the store; data/NAME by default.
        source: folder, URL or pipe:COMMAND that has the files under their names, in place of the preset's addresses.
        limits: how long to go on trying; None takes the defaults.
        say: receives lines of text for the user.

    Returns:
        The words of the `data build` command that makes the store `out`/store; none for labelled sequences, which are
        read as they are.

    Raises:
        UserError: There is no such preset, a file cannot be had or is not what it should be, or no space is left.
    """
    preset = load_preset(name)
    out = out or Path("data") / preset.name
    check_local(out)
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
    return [] if preset.is_labelled else _build_command(preset, folder, out / "store")


def _bring(
    file: File, folder: Path, source: str | None, lists: "_Lists", limits: Limits | None, progress: WorkProgress
) -> str:
    """Bring one file, unless it is there, and check it.

    Args:
        file: the file.
        folder: folder to bring it to.
        source: place of the files instead of their addresses, as for `download`.
        lists: the providers' lists of checksums.
        limits: how long to go on trying; None takes the defaults.
        progress: told of the bytes that are there.

    Returns:
        What was done and found, in words.

    Raises:
        UserError: The file cannot be had or is not what it should be.
    """
    target = folder / file.name
    kept = _read_notes(folder).get(file.name)
    if kept:
        algorithm = "sha256"
        expected = kept["sha256"]
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
        with lock(folder / f".{CHECKSUMS}.lock"):  # other downloads may add their notes
            notes = _read_notes(folder)
            _write_notes(folder, {**notes, file.name: {"bytes": found["bytes"], "sha256": found["sha256"]}})
    checked = f"{algorithm} as expected" if algorithm else f"not checked, since {expected}; kept in {CHECKSUMS}"
    return f"{result}, {found['bytes']:,} bytes, sha256 {found['sha256']} ({checked})"


def _digest(file: Path, algorithm: str, sha256: str) -> str:
    """Return the digest of a file by an algorithm of hashlib; its sha256 is known already."""
    if algorithm == "sha256":
        return sha256
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _place(file: File, source: str | None) -> str:
    """Return the place to fetch a file from, as `fetch` takes it."""
    place = join(source, file.name) if source else file.url
    return place if is_remote(place) else _local(place)


def _local(path: str) -> str:
    """Return the place of a local file, as `fetch` takes it."""
    if not Path(path).is_file():
        raise NotThereError(f"{path} is not there; give a --source that has the files under the names of the preset")
    return f"{PIPE}cat {shlex.quote(path)}"


class _Lists:
    """Looks up checksums in the providers' lists, each of which is fetched once.

    Args:
        source: place of the files instead of their addresses, as for `download`; lists lie beside the files there.
        limits: how long to go on trying; None takes the defaults.
    """

    def __init__(self, source: str | None, limits: Limits | None) -> None:
        self._source = source
        self._limits = limits
        self._fetched: dict[str, str] = {}  # content of the lists, by the places that they came from

    def checksum(self, file: File) -> tuple[str, str]:
        """Return the checksum of a file: an algorithm of hashlib and the digest, or "" and why there is none."""
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
        """Return the content of a list."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "list"
            fetch(place if is_remote(place) else _local(place), file, limits=self._limits)
            return file.read_text(encoding="utf-8", errors="replace")


def _read_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the "bytes" and "sha256" that are kept for the files that were fetched, by their names."""
    file = folder / CHECKSUMS
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); delete it to trust what the servers send next") from error


def _write_notes(folder: Path, notes: dict[str, dict[str, Any]]) -> None:
    """Replace what is kept for the files that were fetched."""
    write_atomically(folder / CHECKSUMS, json.dumps(notes, indent=1, sort_keys=True) + "\n")


def _build_command(preset: Preset, folder: Path, store: Path) -> list[str]:
    """Return the words of the command that builds the store.

    Files that hold one sequence each are divided into splits by the names of their sequences. Where the preset gives a
    sequence another name than its file has, a file of old and new names is written for --rename.

    Args:
        preset: the preset.
        folder: folder of its files.
        store: folder of the store to build.
    """
    words = ["hyena-dist", "data", "build"]
    flags = list(preset.build)
    names: dict[str, str] = {}  # new names of sequences, by their names in the files
    held_out: dict[str, list[str]] = {"valid": [], "test": []}  # contigs of these splits
    for file in preset.files:
        path = folder / file.name
        label = file.species
        if file.use == "bed":
            flags += ["--bed", f"{label}={path}" if label else str(path)]
            continue
        words.append(f"{label}={path}" if label else str(path))
        if file.contig or file.split in held_out:
            found = _first_name(path)
            contig = file.contig or found
            names[found] = contig
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
    """Return the name of the first sequence of a FASTA file."""
    return next(read_fasta(fasta, read_text(fasta))).name
