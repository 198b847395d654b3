"""Measuring in a process of its own: its peak is its own, and one that the system kills is a result, not the end."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from hyena_dist.errors import UserError
from hyena_dist.ops.precision import DTYPES, precision_warning
from hyena_dist.parallel.world import check_backend


def in_a_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Return what measure(*arguments) returns, or a str that says why it did not."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure_and_send, args=(measure, arguments, send))
    process.start()
    send.close()
    try:
        answer = receive.recv()
        process.join()
    except EOFError:
        process.join()
        answer = "out of memory" if process.exitcode == -9 else "ended early"
    return answer


def _measure_and_send(measure: Callable[..., Any], arguments: tuple[Any, ...], send: Connection) -> None:
    try:
        send.send(measure(*arguments))
    except (RuntimeError, MemoryError) as error:  # torch's words for memory that there is not
        text = str(error)
        send.send("out of memory" if "memory" in text or "allocate" in text else text.splitlines()[0][:80])


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: "cuda" without a GPU, or a HYENA_DIST_BACKEND that the device does not have.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda finds no GPU; run it where there is one, or with --device cpu")
    check_backend(torch.device(device))


def check_precisions(option: str, names: Sequence[str], device: str) -> None:
    """Refuse precisions that are not built, and warn on standard error of those in which products are slow.

    Raises:
        UserError: a name that is not in DTYPES.
    """
    for name in names:
        if name not in DTYPES:
            raise UserError(f"{option} {name} is not built; choose of {', '.join(DTYPES)}")
        if warning := precision_warning(name, torch.device(device)):
            print(warning, file=sys.stderr)


def now(device: torch.device) -> float:
    """Return the time in seconds, once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
