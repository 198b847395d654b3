"""Work spread over processes, which report what they do and end when the process that started them ends."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

import numpy as np

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.errors import UserError
from hyena_dist.system.processes import die_with_parent

Task = TypeVar("Task")
Item = TypeVar("Item")
Report = Callable[..., object]
"""A function that sends its arguments to the process that started the work."""


def grouped(items: Iterable[Item], size: Callable[[Item], int], least: int) -> list[list[Item]]:
    """Divide items into groups of successive ones, so that small items need not be tasks of their own.

    Args:
        items: what to divide.
        size: returns the size of an item.
        least: sum of sizes at which a group is full; only the last group may have less.
    """
    groups: list[list[Item]] = []
    room = 0  # what the last group lacks
    for item in items:
        if room <= 0:
            groups.append([])
            room = least
        groups[-1].append(item)
        room -= size(item)
    return groups


def contig_groups(contigs: Contigs, least: int) -> Iterator[range]:
    """Yield the numbers of contigs in a row that have `least` bases together; only the last may have fewer."""
    first = 0
    while first < len(contigs):
        end = int(np.searchsorted(contigs.offset, contigs.offset[first] + least))
        end = min(max(end, first + 1), len(contigs))
        yield range(first, end)
        first = end


def run_tasks(
    work: Callable[[Task, Report], Any], tasks: Sequence[Task], processes: int, on_report: Callable[..., object]
) -> list[Any]:
    """Call work(task, report) for each task, in up to `processes` processes at a time.

    Processes are forked, so that nothing is imported again and tasks need not be pickled. Where there is a single task,
    or `processes` is 1, this process does the work. Tasks start in order.

    Args:
        work: does one task, and may call its second argument to report something.
        tasks: the tasks, each the first argument of one call.
        processes: how many processes work at a time.
        on_report: called in this process with the arguments of each report.

    Returns:
        What `work` returned, in the order of the tasks.

    Raises:
        UserError: A process was killed.
        Exception: `work` or `on_report` raised it; the other tasks are then ended.
    """
    if len(tasks) <= 1 or processes <= 1:
        return [work(task, on_report) for task in tasks]
    context = multiprocessing.get_context("fork")
    results: dict[int, Any] = {}
    running: dict[Connection, tuple[int, ForkProcess]] = {}
    waiting = list(enumerate(tasks))[::-1]
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                number, task = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(work, task, sender), daemon=True)
                process.start()
                sender.close()
                running[receiver] = (number, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process = running[ready]
                try:
                    kind, content = ready.recv()
                except EOFError:
                    process.join()
                    raise UserError(
                        f"a worker process was killed (exit code {process.exitcode}), perhaps for want of memory; "
                        f"run the same command again, with fewer --processes if it comes back"
                    ) from None
                if kind == "report":
                    on_report(*content)
                elif kind == "error":
                    raise content
                else:
                    results[number] = content
                    process.join()
                    del running[ready]
    finally:
        for _, process in running.values():
            process.kill()
            process.join()
    return [results[number] for number in range(len(tasks))]


def _run(work: Callable[[Any, Report], Any], task: Any, sender: Connection) -> None:
    """Do one task in a process of its own, and send its reports and then its result or its error."""
    die_with_parent()  # the next run must find nobody writing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process

    def report(*content: Any) -> None:
        sender.send(("report", content))

    try:
        sender.send(("result", work(task, report)))
    except (UserError, OSError) as error:
        sender.send(("error", error))
    except BaseException:
        sender.send(("error", RuntimeError(f"in a worker process:\n{traceback.format_exc()}")))
