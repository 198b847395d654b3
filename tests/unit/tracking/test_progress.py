"""Rows keep their columns and come every few seconds at most; a bar starts where the run does."""

import io
import math
import re
from itertools import pairwise
from typing import Any

import pytest

from hyena_dist.tracking import TrainingProgress, human
from hyena_dist.tracking.progress import _duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watch:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr("time.monotonic", watch.monotonic)
    return watch


def rows(stream: io.StringIO) -> list[list[str]]:
    """The cells of each row, without headers."""
    return [line.split() for line in stream.getvalue().splitlines() if "seq_length" not in line]


def update(progress: TrainingProgress, step: int, **changed: Any) -> None:
    values: dict[str, Any] = {
        "tokens": step * 8192,
        "seq_length": 1024,
        "loss": 1.25,
        "lr": 6e-4,
        "grad_norm": 0.731,
        "tokens_per_second": 23_456.0,
        "memory_gib": 1.5,
        "data_wait": 0.012,
    }
    values |= changed
    measured = None if values["loss"] is None else math.exp(min(values["loss"], 700))
    progress.update(step=step, measured=measured, **values)


def test_plain_lines_have_fixed_columns_without_blanks_in_them() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(2_000_000, 2_000_000 * 8192, True, stream)
    update(progress, 1)
    wide = {"seq_length": 1_048_576, "loss": 800.0, "grad_norm": 123_456.0, "tokens_per_second": 999_700}
    update(progress, 999, **wide, ends_stage=True)
    update(progress, 1_999_999, tokens=16 * 10**12, grad_norm=None, memory_gib=None, loss=float("nan"), data_wait=1)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == [
        "step", "tokens", "seq_length", "loss", "ppl", "lr", "grad_norm", "tokens/s", "memory_GiB", "data_wait_%",
        "time_left",
    ]  # fmt: skip
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in lines]
    assert len(lines) == 4
    assert all(end == ends[0] for end in ends)
    assert lines[1].split()[:10] == [
        "1", "8.19k", "1024", "1.2500", "3.49", "6.00e-04", "0.731", "23.5k", "1.50", "1.2",
    ]  # fmt: skip
    assert lines[2].split()[4] == "inf"
    assert lines[2].split()[7] == "1.00M"
    assert lines[3].split()[4] == "nan"
    assert lines[3].split()[6] == lines[3].split()[8] == "-"


def test_a_step_with_nothing_scored_has_no_loss() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(2, 2 * 8192, True, stream)
    update(progress, 1, loss=None)
    assert rows(stream)[0][3:5] == ["-", "-"]
    terminal = Terminal()
    update(TrainingProgress(2, 2 * 8192, True, terminal), 1, loss=None)
    assert "left  loss -  seq 1,024" in terminal.getvalue()


def test_the_header_comes_again_every_40_rows() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(100, 100 * 8192, True, stream)
    for step in range(1, 100):
        update(progress, step, ends_stage=True)
    headers = [i for i, line in enumerate(stream.getvalue().splitlines()) if "seq_length" in line]
    assert headers == [0, 41, 82]


def test_rows_come_every_few_seconds_whatever_a_step_takes(watch: Watch) -> None:
    stream = io.StringIO()
    progress = TrainingProgress(36_000, 36_000 * 8192, True, stream)
    printed: list[float] = []
    for step in range(1, 36_001):  # an hour of ten steps a second
        watch.now += 0.1
        before = stream.tell()
        update(progress, step)
        printed += [watch.now - 1000] if stream.tell() > before else []
    gaps = [later - earlier for earlier, later in pairwise(printed)]
    assert printed[0] == pytest.approx(0.1)
    assert all(gap == pytest.approx(5, abs=0.2) for gap in gaps[:18])  # the first minutes, while a twentieth is less
    assert all(earlier <= later + 0.2 for earlier, later in pairwise(gaps))
    assert gaps[-1] == pytest.approx(30, abs=0.2)
    assert len(printed) < 200


def test_slow_steps_have_a_row_each(watch: Watch) -> None:
    stream = io.StringIO()
    progress = TrainingProgress(100, 100 * 8192, True, stream)
    for step in range(1, 6):
        watch.now += 31
        update(progress, step)
    assert [row[0] for row in rows(stream)] == ["1", "2", "3", "4", "5"]


def test_the_last_row_of_a_stage_and_of_the_run_are_always_there(watch: Watch) -> None:
    stream = io.StringIO()
    progress = TrainingProgress(100, 100 * 8192, True, stream)
    for step in range(1, 8):
        update(progress, step, ends_stage=step == 4)
    progress.close()
    progress.close()
    assert [row[0] for row in rows(stream)] == ["1", "4", "7"]


def test_time_left_comes_from_tokens(watch: Watch) -> None:
    stream = io.StringIO()
    progress = TrainingProgress(1000, 1_000_000, True, stream, step=500, tokens=400_000)
    watch.now += 10
    update(progress, 501, tokens=410_000)  # 10,000 tokens in 10 s, 590,000 to go.
    assert rows(stream)[-1][-1] == "9:50"


def test_notes_are_lines_of_their_own() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(10, 100, True, stream)
    progress.note("checkpoint saved")
    assert stream.getvalue() == "checkpoint saved\n"


def test_other_ranks_show_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        progress = TrainingProgress(10, 100, False, stream)
        update(progress, 1)
        progress.note("text")
        progress.close()
        assert stream.getvalue() == ""


def test_a_bar_starts_at_the_resumed_step_and_survives_notes() -> None:
    stream = Terminal()
    progress = TrainingProgress(400, 400 * 8192, True, stream, step=200, tokens=200 * 8192)
    assert " 50% |" in stream.getvalue()
    assert "step 200/400" in stream.getvalue()
    update(progress, 300)
    assert " 75% |" in stream.getvalue()
    assert "left  loss 1.250  ppl 3.49  seq 1,024  23.5 k tok/s" in stream.getvalue()
    progress.note("checkpoint saved")
    assert "\rcheckpoint saved\n" in re.sub(r"\r +\r", "\r", stream.getvalue())
    progress.close()
    progress.close()
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"), (1, "1"), (999, "999"), (999.6, "1.00 k"), (1000, "1.00 k"), (1234, "1.23 k"), (9999, "10.0 k"),
        (99_960, "100 k"), (999_400, "999 k"), (999_600, "1.00 M"), (1_234_567, "1.23 M"), (5e9, "5.00 G"),
        (3.2e12, "3.20 T"), (float("nan"), "nan"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_human(n: float, text: str) -> None:
    assert human(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01"), (90_000, "1d01h"), (float("inf"), "?")],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
