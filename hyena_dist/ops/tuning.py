"""Choices between implementations that only a GPU can make: each is timed once, and the fastest is taken from then on.

What is fastest depends on the operation, its sizes, the GPU and the versions of torch and Triton, which together name a
case. A case is settled by the choices that were installed, else by those on disk, else by timing, which settles it on
disk too. Ranks agree because all of them install the choices of one; a run that is continued is equal to the bit
because it installs those of its checkpoint.

The file choices.json is in HYENA_DIST_CACHE, else in XDG_CACHE_HOME/hyena-dist, else in ~/.cache/hyena-dist. It may be
read, changed and deleted by people.
"""

import functools
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

Candidates = Mapping[str, Callable[[], object]]
"""Names of implementations, the one that always works first -> functions that run them on operands of a case."""

VARIABLE = "HYENA_DIST_CACHE"
"""The environment variable that names the folder of choices.json."""

REPEATS = 5

_settled: dict[str, str] = {}
_may_time = True


def choose(
    operation: str, device: torch.device, dtype: torch.dtype, length: int, rows: int, candidates: Candidates
) -> str:
    """Return the name of the candidate that is to be taken for this case; a single one is not timed.

    Args:
        operation: the name of what they compute.
        device: where they compute it.
        dtype: the type of the operands.
        length: the length of the sequences.
        rows: the number of sequences, batch times channels.
        candidates: the implementations. Where nothing may be timed, the one is taken that is settled for the nearest
            number of sequences (blocks of channels and evaluation have others than were rehearsed), else the first.
    """
    first = next(iter(candidates))
    if len(candidates) == 1:
        return first
    begin, end = f"{operation} of ", f" x {length} in {str(dtype).removeprefix('torch.')} on {machine(device)}"
    case = f"{begin}{rows}{end}"
    if _settled.get(case) not in candidates:
        if not _may_time:
            return _of_nearest(rows, begin, end, candidates) or first
        on_disk = _read()
        if on_disk.get(case) not in candidates:
            on_disk[case] = _fastest(operation, device, candidates)
            _write(on_disk)
        _settled[case] = on_disk[case]
    return _settled[case]


def chosen() -> dict[str, str]:
    """Return the choices of this process, those that were installed included: case -> name of the candidate."""
    return dict(_settled)


def install(choices: Mapping[str, str]) -> None:
    """Take these choices in place of all that this process has, and time nothing more outside of `timing`."""
    global _may_time
    _settled.clear()
    _settled.update(choices)
    _may_time = False


@contextmanager
def timing() -> Iterator[None]:
    """Allow what `install` has ended: within the block, cases that are not settled are looked up on disk or timed."""
    global _may_time
    before, _may_time = _may_time, True
    try:
        yield
    finally:
        _may_time = before


@functools.cache
def machine(device: torch.device) -> str:
    """Return what cases have in common on a device: the words that end all of them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "none"
    return f"{name}, torch {torch.__version__}, triton {triton}"


def _of_nearest(rows: int, begin: str, end: str, candidates: Candidates) -> str | None:
    """Return what is settled for the number of sequences that is nearest to `rows` as a ratio; None if nothing is.

    The cases are those that differ in this number alone.
    """
    numbers = {case.removeprefix(begin).removesuffix(end): name for case, name in _settled.items()}
    settled = {int(number): name for number, name in numbers.items() if number.isdecimal() and name in candidates}
    return settled[min(settled, key=lambda known: abs(math.log(known / rows)))] if settled else None


def _fastest(operation: str, device: torch.device, candidates: Candidates) -> str:
    seconds = {}
    for name, run in candidates.items():
        try:
            seconds[name] = _median_seconds(run, device)
        except Exception as error:  # whatever a compiler or a driver raises, memory that is not there among it
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"{operation} is not computed by {name}, which fails here: {words}", stacklevel=3)
    return min(seconds, key=seconds.__getitem__) if seconds else next(iter(candidates))


def _median_seconds(run: Callable[[], object], device: torch.device) -> float:
    run()  # compiles
    if device.type != "cuda":
        times = [time.perf_counter()]
        for _ in range(REPEATS):
            run()
            times.append(time.perf_counter())
        return statistics.median(end - start for start, end in itertools.pairwise(times))
    with torch.cuda.device(device):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]
        events[0].record()
        for event in events[1:]:
            run()
            event.record()
        events[-1].synchronize()
    return statistics.median(start.elapsed_time(end) / 1e3 for start, end in itertools.pairwise(events))


def _path() -> Path:
    if folder := os.environ.get(VARIABLE):
        return Path(folder, "choices.json")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hyena-dist", "choices.json")


def _read() -> dict[str, str]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
            raise ValueError("it is no table of names")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{_path()} is ignored and made anew, as it cannot be read: {error}", stacklevel=3)
        return {}
    return found


def _write(choices: Mapping[str, str]) -> None:
    """Replace the file; other processes see it as it was or as it is."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(json.dumps(choices, indent=2, sort_keys=True) + "\n")
        os.replace(file.name, path)
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error.strerror}): choices are timed again next time", stacklevel=3)
