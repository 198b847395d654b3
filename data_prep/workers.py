"""Runs tasks in processes, which report what they do, and which end when the process that started them ends."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from hyena_dist.errors import UserError
from hyena_dist.system.processes import die_with_parent

Task = TypeVar("Task")
Report = Callable[..., object]
"""Sends its arguments to the process that started the work."""


def run_tasks(
    work: Callable[[Task, Report], Any], tasks: Sequence[Task], processes: int, on_report: Callable[..., object]
) -> list[Any]:
    """Call work(task, report) for each task, in up to `processes` processes at a time.

    Processes are forked, so that nothing is imported again and tasks need not be pickled; a single task or process
    needs none. Tasks start in order.

    Args:
        work: the function.
        tasks: its first arguments.
        processes: how many at a time.
        on_report: called here with the arguments of each report.

    Returns:
        What `work` returned, in the order of the tasks.

    Raises:
        UserError: a process was killed.
        Exception: what `work` or `on_report` raised first; the other tasks are then ended.
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
    die_with_parent()  # its next run must find nobody writing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process

    def report(*content: Any) -> None:
        sender.send(("report", content))

    try:
        sender.send(("result", work(task, report)))
    except (UserError, OSError) as error:
        sender.send(("error", error))
    except BaseException:
        sender.send(("error", RuntimeError(f"in a worker process:\n{traceback.format_exc()}")))
