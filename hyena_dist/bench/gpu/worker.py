"""The process that measures. It may die or hang with a kernel: another one then goes on after the case that did it.

For each case it sends what is measured before it is, then what was found.
"""

import importlib
import os
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from hyena_dist.bench.gpu.plan import LeftOut, Sizes, Step


class Request(NamedTuple):
    """The next thing that a worker shall do."""

    step: Step
    seconds: float
    """The time after which no further case begins."""
    skip: int
    """The number of cases that have been seen to."""


class Begun(NamedTuple):
    """The name of a case, sent when it begins."""

    case: dict[str, Any]


class Found(NamedTuple):
    """The figures of the case that has begun, with its outcome; empty if all is well."""

    figures: dict[str, Any]


def work(sizes: Sizes, pipe: Connection) -> None:
    """Do what comes through the pipe until nothing more does; each request is answered by its cases and then None."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler says that it starts and stops
    if sizes.dry:
        # Before anything imports torch and triton. Threads would wait for each other on a busy machine.
        os.environ |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        answer(request, sizes, pipe.send)
        pipe.send(None)


def answer(request: Request, sizes: Sizes, send: Callable[[Any], None]) -> None:
    """Measure the cases of a request, and send each one's name and figures; none begins once its time is over."""
    end = time.monotonic() + request.seconds
    try:
        cases = [*importlib.import_module(request.step.module).cases(sizes)]
    except Exception as error:
        send(Begun({}))
        send(Found(failure(error)))
        return
    for case, measure in cases[request.skip :]:
        send(Begun(dict(case)))
        if time.monotonic() > end:
            send(Found({"outcome": "no time was left"}))
            continue
        send(Found(figures(measure)))
        _check_device(sizes)


def figures(measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a case finds, and how it ended; whatever it raises is an outcome."""
    import torch

    try:
        return {**measure(), "outcome": ""}
    except LeftOut as reason:
        return {"outcome": f"left out: {reason}"}
    except torch.OutOfMemoryError:
        return {"outcome": "out of memory"}
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> dict[str, Any]:
    """Return the outcome that stands for an error, with the end of its traceback."""
    first = next(iter(str(error).splitlines()), "")
    return {
        "outcome": f"failed: {type(error).__name__}: {first[:200]}",
        "traceback": traceback.format_exc()[-2000:],
    }


def _check_device(sizes: Sizes) -> None:
    """Give unused memory back; end this process if its GPU refuses all further work, as after a wrong address."""
    if sizes.device == "cuda":
        import torch

        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            os._exit(1)
