"""The process that shares out the time among the steps, and keeps every figure as soon as it is there.

A step may take its share of the time that is left when it begins: what one saves, those after it have. No case begins
after that, and one that goes on for long is ended with its process.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hyena_dist.bench.gpu.compiling import Compiling
from hyena_dist.bench.gpu.plan import STEPS, Sizes, Step
from hyena_dist.bench.gpu.report import write_report
from hyena_dist.bench.gpu.worker import Begun, Found, Request, work

Row = dict[str, Any]

REPORT_S = 15.0
"""The seconds that are kept for the report."""
GRACE = 0.5
"""How much longer than its share a step may take, as a share of it, before its process is ended."""
_HIDDEN = ("step", "what", "outcome", "traceback", "at_s")
"""Columns that a line on the terminal does not name."""


def measure(sizes: Sizes, minutes: float, out: Path) -> int:
    """Run all steps, and write results.jsonl, tables, plots and REPORT.md to `out`.

    Returns:
        The number of steps in which a case failed. One that this machine cannot do, for want of memory or a package, or
        that there was no time for, has not failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with Run(sizes, minutes, out) as run:
        try:
            for row in run.rows():
                rows.append(row)
        except KeyboardInterrupt:
            print("interrupted: what was found is reported", file=sys.stderr)
        rows += run.compiled()
    write_report(rows, out)
    failed = {row["step"] for row in rows if row["outcome"].startswith("failed")}
    print(f"{out / 'REPORT.md'}: " + (f"failed: {', '.join(sorted(failed))}" if failed else "no step failed"))
    return len(failed)


class Run:
    """One measurement: its time, its worker and the file of its figures."""

    def __init__(self, sizes: Sizes, minutes: float, out: Path) -> None:
        self._sizes = sizes
        self._begin = time.monotonic()
        self._end = self._begin + 60 * minutes - REPORT_S
        self._file = open(out / "results.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        self._compiling = Compiling(sizes)
        self._worker: tuple[Any, Connection] | None = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_worker()
        self._compiling.end()
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """Run the steps and give each case's row, which is on the disk by then."""
        for number, step in enumerate(STEPS):
            seconds = self._left() * step.share / sum(later.share for later in STEPS[number:])
            for row in self._step(step, seconds):
                yield self._keep({"step": step.name, **row})

    def compiled(self) -> list[Row]:
        """End what compiles in the background, and return a row for each kernel."""
        return [self._keep({"step": "compiling", **row}) for row in self._compiling.end()]

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _keep(self, row: Row) -> Row:
        row["at_s"] = round(time.monotonic() - self._begin, 1)
        self._file.write(json.dumps(row, default=str) + "\n")
        self._file.flush()
        left = max(0, int(self._left()))
        print(f"[{left // 60}:{left % 60:02} left] {_words(row)}", flush=True)
        return row

    def _step(self, step: Step, seconds: float) -> Iterator[Row]:
        """Give the rows of a step, from as many workers as it takes."""
        end = time.monotonic() + seconds
        limit = min(end + GRACE * seconds, self._end)
        done = 0
        while True:
            case: Row | None = None
            before = done
            try:
                pipe = self._ready_worker()
                pipe.send(Request(step, end - time.monotonic(), done))
                while pipe.poll(max(0.0, limit - time.monotonic())):
                    answer = pipe.recv()
                    if answer is None:
                        return
                    if isinstance(answer, Begun):
                        case = answer.case
                    elif isinstance(answer, Found):
                        done += 1
                        yield {**(case or {}), **answer.figures}
                        case = None
                outcome = "failed: it was still running when its time was over"
            except (EOFError, OSError):
                outcome = f"failed: its process ended ({self._exit_code()})"
            self._end_worker()
            if case is None and done > before and time.monotonic() < limit:
                continue  # it ended itself between two cases, as it does where its GPU is lost
            done += 1
            yield {**(case or {}), "outcome": outcome}
            if case is None or time.monotonic() >= limit:
                return

    def _ready_worker(self) -> Connection:
        """Return the pipe to the worker, which is started if there is none."""
        if self._worker is None:
            context = multiprocessing.get_context("spawn")
            pipe, other = context.Pipe()
            process = context.Process(target=work, args=(self._sizes, other), daemon=False)
            process.start()
            other.close()
            self._worker = process, pipe
        return self._worker[1]

    def _exit_code(self) -> str:
        assert self._worker is not None
        self._worker[0].join(timeout=5)
        return f"exit code {self._worker[0].exitcode}"

    def _end_worker(self) -> None:
        if self._worker is not None:
            process, pipe = self._worker
            pipe.close()
            process.kill()
            process.join()
            self._worker = None


def _words(row: Row) -> str:
    """Return a line that says what a row holds."""
    figures = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    shown = [text for key, text in zip(row, figures, strict=True) if key not in _HIDDEN]
    return ", ".join([f"{row['step']}: {row.get('what', '')}", *shown, *([row["outcome"]] if row["outcome"] else [])])
