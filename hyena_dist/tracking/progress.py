"""TrainingProgress, shown as its reader needs it: a bar on a terminal, now and then a row of columns in a log."""

import math
import os
import sys
import time
from collections import deque
from typing import TextIO

from tqdm import tqdm

from hyena_dist.system.pacing import LinePacer

# Name and width of the columns of plain lines. No cell holds a blank, so awk and pandas read the log.
_COLUMNS = (
    ("step", 9),
    ("tokens", 8),
    ("seq_length", 10),
    ("loss", 8),
    ("ppl", 8),
    ("lr", 8),
    ("grad_norm", 9),
    ("tokens/s", 8),
    ("memory_GiB", 10),
    ("data_wait_%", 11),
    ("time_left", 9),
)
_HEADER_EVERY = 40


class TrainingProgress:
    """Shows how far training is, how fast it goes and how long it still takes.

    A bar follows every update. A log gets a row every few seconds at most (see `LinePacer`), but always the first, the
    last of each stage, and the last.

    Args:
        total_steps: Optimizer steps of the whole run.
        total_tokens: Tokens of the whole run, over all ranks; the time left is estimated from tokens, because steps
            of later curriculum stages take longer.
        enabled: False shows nothing; every rank but 0 passes it.
        measure: Name of the number that stands beside the loss, such as ppl; None for none.
        stream: Where to write; standard error by default.
        step: The step that a resumed run starts from.
        tokens: The tokens that a resumed run starts from.
    """

    def __init__(
        self,
        total_steps: int,
        total_tokens: int,
        enabled: bool,
        stream: TextIO | None = None,
        *,
        measure: str | None = "ppl",
        step: int = 0,
        tokens: int = 0,
    ) -> None:
        self._total_steps = total_steps
        self._total_tokens = total_tokens
        self._shown = enabled
        self._enabled = enabled  # until `close`
        self._measure = measure
        self._stream = stream or sys.stderr
        self._rows = 0
        self._pacer = LinePacer()
        self._held_back: str | None = None
        # Wall-clock time over the last updates includes evaluations and checkpoints, which the time left must too.
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), tokens)], maxlen=100)
        self._bar: tqdm | None = None
        if enabled and self._stream.isatty():
            self._bar = tqdm(
                total=total_tokens,
                initial=tokens,
                file=self._stream,
                # Some terminals in containers say that they have no size, and tqdm would draw nothing.
                dynamic_ncols=_has_size(self._stream),
                ncols=80,
                nrows=24,
                bar_format="{percentage:3.0f}% |{bar}| {desc}",
                desc=f"step {step}/{total_steps}",
            )

    def update(
        self,
        *,
        step: int,
        tokens: int,
        seq_length: int,
        loss: float | None,
        measured: float | None,
        lr: float,
        grad_norm: float | None,
        tokens_per_second: float,
        memory_gib: float | None,
        data_wait: float,
        ends_stage: bool = False,
    ) -> None:
        """Show one step, or hold it back until `close` if a row was printed just now.

        Args:
            step: Optimizer steps done.
            tokens: Tokens done, over all ranks.
            seq_length: Sequence length of this step.
            loss: Training loss; None where nothing was scored.
            measured: The number that stands beside it.
            lr: Learning rate.
            grad_norm: Norm of the gradient before clipping, if known.
            tokens_per_second: Rate over all ranks.
            memory_gib: Peak memory of this rank in GiB, if known.
            data_wait: Share of the step's time spent waiting for data, 0 to 1.
            ends_stage: Whether this is the last step of a curriculum stage.
        """
        if not self._enabled:
            return
        self._recent.append((time.monotonic(), tokens))
        left = _duration(self._seconds_left())
        if self._bar is not None:
            self._bar.n = tokens
            beside = "" if measured is None else f"{self._measure} {_measured(measured)}  "
            self._bar.set_description_str(
                # A narrow terminal cuts the end off, so what matters most comes first.
                f"step {step}/{self._total_steps}  {left} left  loss {_loss(loss, 3)}  {beside}seq {seq_length:,}  "
                f"{human(tokens_per_second)} tok/s"
            )
            return
        cells = (
            str(step),
            _compact(tokens),
            str(seq_length),
            _loss(loss, 4),
            _measured(measured),
            f"{lr:.2e}",
            "-" if grad_norm is None else f"{grad_norm:.3g}",
            _compact(tokens_per_second),
            "-" if memory_gib is None else f"{memory_gib:.2f}",
            f"{100 * data_wait:.1f}",
            left,
        )
        self._held_back = _row(cells)
        if ends_stage or self._rows == 0 or self._pacer.due():
            self._print_row()

    def note(self, text: str) -> None:
        """Print a line of text without breaking the bar, also after `close`; any thread may call it."""
        bar = self._bar
        if not self._shown:
            return
        if bar is not None:
            bar.write(text, file=self._stream)
        else:
            self._print(text)

    def close(self) -> None:
        """Leave the bar as it stands and end its line, or print the row that was held back."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._held_back is not None:
            self._print_row()
        self._enabled = False

    def _print_row(self) -> None:
        if self._rows % _HEADER_EVERY == 0:
            names = {"ppl": self._measure or "-"}
            self._print(_row(tuple(names.get(name, name) for name, _ in _COLUMNS)))
        self._print(self._held_back or "")
        self._held_back = None
        self._rows += 1
        self._pacer.printed()

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")  # at once, because a thread that saves prints too
        self._stream.flush()

    def _seconds_left(self) -> float:
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        if end <= start or last <= first:
            return math.inf
        return max(self._total_tokens - last, 0) * (end - start) / (last - first)


def human(n: float) -> str:
    """Return a count with three digits and a unit: ``1.23 M``."""
    if not math.isfinite(n):
        return str(n)
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,500 rounds to 1,000 k, which is 1.00 M.
        if abs(n) >= size * 0.9995:
            scaled = n / size
            decimals = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{decimals}f} {unit}"
    return f"{n:.0f}"


def _has_size(stream: TextIO) -> bool:
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def _compact(n: float) -> str:
    return human(n).replace(" ", "")


def _loss(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _measured(value: float | None) -> str:
    # What has diverged does not fit a column.
    return "-" if value is None else f"{value:.4g}" if not value > 1e30 else "inf"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
