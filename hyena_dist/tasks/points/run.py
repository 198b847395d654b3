"""The points of a task as processes: side by side, each a run of its own, and none twice."""

import copy
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hyena_dist.config.file import override
from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.system.launch import RUN_VARIABLE, launch_environment
from hyena_dist.system.locks import LockedError, lock
from hyena_dist.system.process_tree import Stopping, Tree
from hyena_dist.system.processes import usable_cores
from hyena_dist.tasks.points.plan import Point, PointsConfig, plan_points
from hyena_dist.tasks.resolve import complete
from hyena_dist.tracking.work_progress import Say
from hyena_dist.train import outcome

TASK = "task.yaml"
"""Name of the file in the folder of all points that holds what they have in common."""
_GRACE_S = 300.0
_LOOK_S = 30.0


def run_points(tree: Mapping[str, Any], folder: Path, config: PointsConfig, say: Say = print) -> list[Point]:
    """Run every point that has not finished, each as `hyena-dist finetune` in `folder`/POINT.

    After a kill, at any moment, the same call goes on: finished points are kept, others continue at their last
    checkpoint. More seeds, folds or settings may be asked for later.

    Args:
        tree: the task file of all points, without a section `points`.
        folder: the folder of all points, which is made.
        config: which points, and how many at once.
        say: receives lines of text for the user.

    Returns:
        The points, all finished.

    Raises:
        UserError: A launcher started this process, the folder has the points of another task or is in use, or a point
            failed: the others have run unless the first one failed.
        KeyboardInterrupt: A signal asked for an end; running points have saved.
    """
    if launch_environment().world_size > 1:
        raise UserError("points run side by side, so start them without a launcher; or start each point with one")
    points = plan_points(config)
    _check(tree, points, config.folds)
    _claim(tree, folder)
    try:
        with lock(folder / ".points.lock", wait_s=1.0, note=str(os.getpid())):
            failed = _Runner(folder, config, points, say).to_the_end()
    except LockedError as error:
        raise UserError(f"the points of {folder} are run by process {error.note}; wait for it or end it") from None
    if failed:
        name, why = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(points)} points failed; {name}: {why}")
    return points


def is_finished(folder: Path, point: Point) -> bool:
    """Return whether a point has been trained and reported on."""
    ended = outcome.read(folder / point.name)
    return ended is not None and ended.outcome == "finished"


def _check(tree: Mapping[str, Any], points: Sequence[Point], folds: int) -> None:
    """Refuse a task, or a setting of the sweep, that cannot work: before one of many points runs."""
    for point in {point.group: point for point in points}.values():
        changed = copy.deepcopy(dict(tree))
        override(changed, point.overrides(folds))
        complete(changed, point.name)


def _claim(tree: Mapping[str, Any], folder: Path) -> None:
    """Keep the task that the points have in common, or check that it is the one that was kept."""
    file = folder / TASK
    text = yaml.safe_dump(dict(tree), sort_keys=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_atomically(file, text)
        kept = file.read_text()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another output_dir") from error
    if yaml.safe_load(kept) != yaml.safe_load(text):
        raise UserError(f"{file} is another task than this one; choose another name, or remove {folder}")


class _Runner:
    """Starts points as there is room, and remembers how they end."""

    def __init__(self, folder: Path, config: PointsConfig, points: Sequence[Point], say: Say) -> None:
        self._folder, self._config, self._say, self._points = folder, config, say, points
        self._waiting = [point for point in points if not is_finished(folder, point)]
        self._kept = len(points) - len(self._waiting)
        self._failed: dict[str, str] = {}
        self._begin = time.monotonic()

    def to_the_end(self) -> dict[str, str]:
        """Return why points failed, by their names."""
        if self._kept:
            self._say(f"{self._kept} of {len(self._points)} points are finished already")
        running: dict[int, tuple[Point, float]] = {}
        with Tree() as tree:
            stopping = Stopping(tree, _GRACE_S, self._say)
            while running or (self._waiting and not stopping.signal):
                while self._waiting and len(running) < self._config.at_once and not stopping.signal:
                    point = self._waiting.pop(0)
                    running[self._start(tree, point)] = point, time.monotonic()
                stopping.wait(_LOOK_S)
                for pid in [pid for pid in running if pid in tree.codes]:
                    self._ended(*running.pop(pid), stopped=stopping.signal is not None)
        if stopping.signal:
            raise KeyboardInterrupt
        return self._failed

    def _start(self, tree: Tree, point: Point) -> int:
        command = [sys.executable, "-m", "hyena_dist", "finetune", str(self._folder / TASK)]
        command += [*point.overrides(self._config.folds), f"output_dir={self._folder}"]
        folder = self._folder / point.name
        env = {**os.environ, RUN_VARIABLE: str(folder)}
        if self._config.at_once > 1:
            env.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // self._config.at_once)))
        try:
            folder.mkdir(exist_ok=True)
            return tree.start(command, env, folder / "log.txt")
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); free some space") from error

    def _ended(self, point: Point, start: float, stopped: bool) -> None:
        ended = outcome.read(self._folder / point.name)
        if ended and ended.outcome == "finished":
            done = sum(is_finished(self._folder, each) for each in self._points)
            rate = (time.monotonic() - self._begin) / (done - self._kept)
            left = rate * (len(self._points) - done - len(self._failed))
            took = time.monotonic() - start
            self._say(f"{done}/{len(self._points)} {point.name}: finished in {took:.0f} s, {left:.0f} s left")
        elif not stopped:
            why = ended.message if ended else f"it ended without a word; see {self._folder / point.name / 'log.txt'}"
            self._failed[point.name] = why
            self._say(f"{point.name} failed: {why}")
            if not any(is_finished(self._folder, each) for each in self._points):
                self._waiting.clear()  # what was asked for cannot work, so that the others would fail as well
