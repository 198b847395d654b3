"""The folder of a build that is not finished, OUT.partial, by which an interrupted build goes on where it was.

It says what the build is of, keeps other builds out, and puts the finished store in its place.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from data_prep.part import read_done
from hyena_dist.errors import UserError
from hyena_dist.system.files import remove_unwritten, replace_atomically, write_atomically
from hyena_dist.system.locks import LockedError, lock

_PLAN = "plan.json"
_LOCK = "lock"
_LOCK_SECONDS = 3.0
"""How long to wait for the lock, since the workers of a build that was just killed take a moment to end."""


class PartialFolder:
    """The folder OUT.partial, in which a build or the writing of shards works until it is complete.

    It holds these files and folders:

        lock            held by the build and its worker processes; the system lets go of it when the last of them ends
        plan.json       input and options of the build
        parts/          a folder for each task (part.py)
        complete        there when all parts are finished, whose arrays then move to the store
        store/          the store, put together at the end
        old/            what OUT was before, for a moment while the store takes its place

    Attributes:
        folder: path of the folder.
        store: path of the store in it.
        parts: path of the parts in it.

    Args:
        out: path of the folder that the build is for.
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
        """Make the folder, and keep other builds out of it while the `with` block runs.

        What was true of OUT before the lock was had need not be true any more. A folder in which nothing is finished at
        the end is removed.

        Raises:
            UserError: Another build is at work.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(lock(self.folder / _LOCK, wait_s=_LOCK_SECONDS))
            except LockedError:
                raise UserError(
                    f"another build is at work in {self.folder}; wait for its end, or choose another folder with --out"
                ) from None
            try:
                yield
            finally:
                if self.folder.exists() and not self._holds_work():
                    self.remove()

    def begin(self, plan: dict[str, Any], *, discard: bool, say: Callable[[str], object]) -> None:
        """Start the build of `plan`, or go on with it, where the parts of inputs that have changed are begun anew.

        Args:
            plan: "inputs" (in order, each with "name" and "species"), and all else that decides the content of parts.
            discard: whether to discard the work of another build that is there.
            say: receives a line of text if something is kept, and for each input that has changed.

        Raises:
            UserError: The folder is another build's.
        """
        if self._is_left_over():
            self._clear()
        remove_unwritten(self.folder)
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
            for before, after in zip(old["inputs"], plan["inputs"], strict=True):
                if before != after:
                    say(f"{after['name']} has changed since, and is read anew")
        write_json(self.folder / _PLAN, plan)
        finished = [done for part in self.parts.glob("*") if (done := read_done(part))]
        finished = [done for done in finished if all(each in plan["inputs"] for each in done.inputs)]
        if any(done.contigs for done in finished):
            contigs, bases = sum(done.contigs for done in finished), sum(done.bases for done in finished)
            say(f"going on with {self.folder}, where {contigs:,} contigs with {bases:,} bases are finished")

    @property
    def is_complete(self) -> bool:
        """Whether all parts are finished, so that their arrays may have moved to the store already."""
        return self._complete.exists()

    def complete(self) -> None:
        """Note that all parts are finished."""
        write_json(self._complete, True)

    def install(self) -> None:
        """Put the store in the place of OUT, and remove this folder."""
        self.complete()
        if self._out.exists():
            self._out.rename(self._old)
        replace_atomically(self.store, self._out)
        self.remove()

    def _clear(self) -> None:
        """Discard everything but the lock, after putting OUT back if it was moved away."""
        if self._old.exists() and not self._out.exists():
            self._old.rename(self._out)
        # The note goes first: if this is interrupted, parts that are left are checked, and a store would not be.
        self._complete.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def _holds_work(self) -> bool:
        """Tell whether anything is finished, so that the folder is worth keeping."""
        return self.store.exists() or self._old.exists() or any(self.parts.glob("*/done.json"))

    def remove(self) -> None:
        """Remove the folder.

        The note that it is complete goes last, since `clean` knows by it what a kill in the midst of this leaves.
        """
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def clean(self) -> None:
        """Remove what is left of the folder if its build was killed after the store had become OUT."""
        if self._is_left_over():
            with self.locked():
                self.remove()

    def _is_left_over(self) -> bool:
        """Tell whether the store has become OUT; it is made before the note that all parts are finished."""
        return self.is_complete and not self.store.exists()

    def _read_plan(self) -> dict[str, Any] | None:
        """Return the plan of the build that the folder is of, or None if there is none."""
        try:
            plan: dict[str, Any] = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return plan


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader finds the old file or the whole new one, also after a power cut."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def _identity(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan without the sizes and times of the input files, which change when one of them is mended."""
    return plan | {"inputs": [[each["species"], each["name"]] for each in plan["inputs"]]}
