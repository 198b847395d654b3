"""The frame of long jobs: numbered parts, done by any number of processes, killed and continued, merged at the end.

OUT.partial/
    job.json        what the parts are of; parts of another job are refused
    part-00000012   a finished part, whole: it was renamed into place
    merge.lock      of the process that merges

No process waits for another. Each does its share of the parts that are not there; whoever finds all of them there
merges them into OUT, which appears whole. So one process can end what eight began.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hyena_dist import __version__
from hyena_dist.errors import UserError
from hyena_dist.system.files import replace_atomically, sync, write_atomically
from hyena_dist.system.launch import launch_environment
from hyena_dist.system.locks import lock
from hyena_dist.tracking.work_progress import WorkProgress

_HEADER = "job.json"


def check_output(out: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output before the work that could not be written after it.

    Raises:
        UserError: another suffix than these, or no folder that can be written to.
    """
    if not out.name.endswith(tuple(suffixes)):
        raise UserError(
            f"{out} ends in {''.join(out.suffixes[-2:]) or 'nothing'}; name a file that ends in {' or '.join(suffixes)}"
        )
    if not out.parent.is_dir():
        raise UserError(f"{out} cannot be written, since there is no folder {out.parent}; make it, or name another")
    partial = _folder_of(out)
    try:
        tempfile.TemporaryFile(dir=partial if partial.is_dir() else out.parent).close()
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; name another place") from error


def is_made_already(out: Path) -> bool:
    """Return whether other processes of this launch have ended the job, as one finds that starts late.

    Raises:
        UserError: the output was there before, and is not replaced.
    """
    if not out.exists():
        return False
    launcher = psutil.Process(os.getppid())
    if launch_environment().world_size == 1 or out.stat().st_mtime < launcher.create_time():
        raise UserError(f"{out} exists and is left as it is; remove it, or name another --out")
    return True


def describe_job(verb: str, sequences: str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the parts of a job depend on: the verb, hashes of input and model, and options, as JSON."""
    return {"made_by": f"hyena_dist {__version__} {verb}", "sequences": sequences, "model": model, **options}


class PartFolder:
    """The folder of a job's parts beside its output.

    Args:
        out: the file or folder that the job makes.
        job: what the parts depend on, as JSON: input, model, options. How many processes do it is not among it.

    Raises:
        UserError: the folder holds the parts of another job, or is a file.
    """

    def __init__(self, out: Path, job: dict[str, Any]) -> None:
        self.out = out
        self.folder = _folder_of(out)
        self._header = self.folder / _HEADER
        text = _as_text(job)
        known_text = ""
        if self.folder.is_file():
            raise UserError(f"{self.folder} is a file, where parts of {out} would be kept; remove it")
        while not known_text:
            # A process that has ended the job removes the folder meanwhile, perhaps between two steps of mkdir.
            with suppress(FileNotFoundError, FileExistsError):
                self.folder.mkdir(exist_ok=True)
                if not self._header.exists():
                    write_atomically(self._header, text)
                known_text = self._header.read_text()
        if known_text != text:
            known = json.loads(known_text)
            changed = sorted(key for key in {*known, *job} if known.get(key) != job.get(key))
            raise UserError(
                f"{self.folder} holds parts of another job with another {', '.join(changed)}; remove the folder, or "
                f"name another --out"
            )

    @staticmethod
    def is_open(out: Path) -> bool:
        """Return whether there is a folder of parts of an output."""
        return _folder_of(out).is_dir()

    @classmethod
    def of_unfinished(cls, out: Path, job: dict[str, Any]) -> "PartFolder | None":
        """Open the folder of a job, or return None if the job has made its output, so that no work is left.

        Raises:
            UserError: the output was there before, and is not replaced; or the folder holds the parts of another job.
        """
        left = _folder_of(out)
        header = left / _HEADER
        if out.exists() and left.exists() and (not header.exists() or header.read_text() == _as_text(job)):
            shutil.rmtree(left, ignore_errors=True)  # a process was killed in `remove`
            return None
        if is_made_already(out):
            return None
        folder = cls(out, job)
        if out.exists():  # others have ended the job between the two lines above
            folder.remove()
            return None
        return folder

    def path(self, number: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"part-{number:08}"

    def compute(
        self, label: str, sizes: Sequence[int], part: Callable[[int, Path], None], rank: int, world_size: int
    ) -> None:
        """Do this process's share of the parts that are not there, and show how far it is.

        Args:
            label: names the work where its progress is shown.
            sizes: bases of each part, for the rate and the time left.
            part: writes the part of a number to a path.
            rank: this process among those that share the work.
            world_size: the number of these processes.
        """
        missing = [number for number in range(rank, len(sizes), world_size) if not self.path(number).exists()]
        with WorkProgress(label, sum(sizes[number] for number in missing), enabled=rank == 0) as progress:
            for number in missing:
                if not self._header.exists():  # a process that found all parts has ended the job
                    return
                unfinished = self.folder / f".part-{number:08}.{os.getpid()}.partial"
                part(number, unfinished)
                sync(unfinished)
                replace_atomically(unfinished, self.path(number))
                progress.advance(sizes[number])

    def merge(self, count: int, write: Callable[[Path], None]) -> None:
        """Make the output and remove the folder, if all parts are there; else other processes are still at theirs.

        Args:
            count: the number of parts.
            write: writes the output, a file or a folder, to a path.
        """
        if not self._is_whole(count):
            return
        with lock(self.folder / "merge.lock"):
            if self._is_whole(count):  # else another process was faster
                merged = self.folder / f"merged{self.out.suffix}"
                shutil.rmtree(merged, ignore_errors=True)
                write(merged)
                for written in (merged, *merged.rglob("*")):  # a file has nothing below it
                    sync(written)
                replace_atomically(merged, self.out)
            self.remove()

    def remove(self) -> None:
        """Remove the folder, beginning with what tells that there is work to do."""
        self._header.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # others may remove it as well

    def _is_whole(self, count: int) -> bool:
        return self._header.exists() and all(self.path(number).exists() for number in range(count))


def _folder_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _as_text(job: dict[str, Any]) -> str:
    return json.dumps(job, indent=2, sort_keys=True) + "\n"
