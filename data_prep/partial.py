"""The folder of a build that is not finished: what it is of, who works in it, and what in it is finished."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.files import describe_file
from hyena_dist.errors import UserError

_PLAN = "plan.json"
_LOCK = "lock"
_LOCK_SECONDS = 3.0
_RECORDED_BASES = 2**22
_MANY_FILES = 100  # for which waiting for the whole disk is faster than for one after the other


class PartialFolder:
    """The folder OUT.partial.

    lock            held by the build and its worker processes; the system lets go of it when the last of them ends
    plan.json       what the build is of
    store/          the store, put together at the end

    Args:
        out: the folder that the build is for.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out.with_name(f"{out.name}.partial")
        self.store = self.folder / "store"
        self.parts = self.folder / "parts"
        self._old = self.folder / "old"
        self._complete = self.folder / "complete"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builds out.

        Raises:
            UserError: another build is at work.
        """
        # A moment's patience: the worker processes of a build that was just killed end at their next block.
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / _LOCK).open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise UserError(
                            f"another build is at work in {self.folder}; wait for its end, or choose another folder "
                            f"with --out"
                        ) from None
                    time.sleep(0.05)
                    continue
                # Whoever had the lock may have ended with removing the folder, and the lock with it.
                if _is_same(lock.fileno(), self.folder / _LOCK):
                    yield
                    return

    def begin(self, plan: dict[str, Any], *, discard: bool, say: Callable[[str], object]) -> None:
        """Start the build of `plan`, or go on with it.

        Inputs that have changed since are begun anew.

        Args:
            plan: "inputs" (in order, each with "name" and "species") and what decides the content of parts.
            discard: whether to discard what is there of another build.
            say: receives a line if something is kept.

        Raises:
            UserError: the folder is of another build.
        """
        if self._is_left_over():
            self._clear()
        old = self._read_plan()
        if old and _identity(old) != _identity(plan) and not discard:
            names = ", ".join(each["name"] for each in old["inputs"])
            raise UserError(
                f"{self.folder} is an unfinished build of other input or options (from {names}); run that command "
                f"again to finish it, or discard it with --overwrite"
            )
        if not old or _identity(old) != _identity(plan) or (self.is_complete and old != plan):
            self._clear()
        else:
            for number, (before, after) in enumerate(zip(old["inputs"], plan["inputs"], strict=True)):
                if before != after:
                    say(f"{after['name']} has changed since, and its contigs are begun anew")
                    for part in self.parts.glob(f"{number}-*"):
                        shutil.rmtree(part)
        write_durably(self.folder / _PLAN, plan)
        contigs = [
            record["contig"]
            for part in self.parts.glob("*")
            for record in PartJournal(part).read()
            if "contig" in record
        ]
        if contigs:
            bases = sum(contig["length"] for contig in contigs)
            say(f"going on with {self.folder}, where {len(contigs)} contigs with {bases:,} bases are finished")

    @property
    def is_complete(self) -> bool:
        """Whether all parts are finished; their arrays may have moved to the store already."""
        return self._complete.exists()

    def complete(self) -> None:
        """Note that all parts are finished."""
        write_durably(self._complete, True)

    def install(self) -> None:
        """Put the store where OUT is, and remove this folder."""
        self.complete()
        if self._out.exists():
            self._out.rename(self._old)
        self.store.rename(self._out)
        sync(self._out.parent)
        self.remove()

    def _clear(self) -> None:
        if self._old.exists() and not self._out.exists():
            self._old.rename(self._out)
        self._complete.unlink(missing_ok=True)  # first: the parts of a half removed folder are checked, a store is not
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def holds_work(self) -> bool:
        """Whether anything is finished, so that the folder is worth keeping."""
        return any(self.parts.glob("*/journal.jsonl"))

    def remove(self) -> None:
        """Remove the folder; last the note that it is complete, by which `clean` knows what a kill leaves."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def clean(self) -> None:
        """Remove what is left if the process was killed when OUT was there already."""
        if self._is_left_over():
            with self.locked():
                self.remove()

    def _is_left_over(self) -> bool:
        """Whether the store has become OUT: it is made before the note that it is complete."""
        return self.is_complete and not self.store.exists()

    def _read_plan(self) -> dict[str, Any] | None:
        try:
            plan: dict[str, Any] = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return plan


class PartJournal:
    """Which contigs of a part are finished: one line of JSON for each, written when its files are on the disk.

    Args:
        part: folder of the part.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self._path = part / "journal.jsonl"
        self._waiting: list[dict[str, Any]] = []
        self._bases = 0

    def read(self) -> list[dict[str, Any]]:
        """The lines that were written whole."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return []
        records = []
        for line in text.split(b"\n")[:-1]:
            try:
                records.append(json.loads(line))
            except ValueError:  # a power cut may leave anything at the end of a file
                break
        return records

    def recover(self) -> list[dict[str, Any]]:
        """Keep the lines before the first whose files are not as it says, and remove all files of no kept line."""
        kept = []
        for record in self.read():
            files = record["files"]
            if not all(_is_file(self._part / path, *content) for path, content in files.items()):
                break
            kept.append(record)
        self._part.mkdir(parents=True, exist_ok=True)
        expected = {path for record in kept for path in record["files"]}
        for path in sorted(self._part.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif str(path.relative_to(self._part)) not in expected and path != self._path:
                path.unlink()
        if kept:
            _replace(self._path, b"".join(map(_line, kept)))
        else:
            self._path.unlink(missing_ok=True)
        return kept

    def add(self, record: dict[str, Any]) -> None:
        """Note that a contig is finished. Small ones wait for others, since waiting for the disk takes a while.

        Args:
            record: JSON, with "files": path, relative to the part -> [bytes, sha256].
        """
        self._waiting.append(record)
        self._bases += record.get("contig", {"length": 0})["length"]
        if self._bases >= _RECORDED_BASES:
            self.write()

    def write(self) -> None:
        """Write the lines of all that was added, after waiting for their files."""
        files = [self._part / path for record in self._waiting for path in record["files"]]
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self._part)}
        if len(files) > _MANY_FILES:
            os.sync()
        else:
            for path in (*files, *folders):
                sync(path)
        with self._path.open("ab") as stream:
            stream.write(b"".join(map(_line, self._waiting)))
            stream.flush()
            os.fsync(stream.fileno())
        self._waiting, self._bases = [], 0


def write_durably(path: Path, content: Any) -> None:
    """Write JSON so that a reader finds the old file or the whole new one, also after a power cut."""
    _replace(path, (json.dumps(content, indent=1) + "\n").encode())


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    sync(new)
    new.rename(path)
    sync(path.parent)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _identity(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan without what may change when an input file is mended."""
    return plan | {"inputs": [[each["species"], each["name"]] for each in plan["inputs"]]}


def _is_file(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and describe_file(path)["sha256"] == sha256


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"
