"""The plot of a run's time says what metrics.jsonl says."""

import csv
import math
from pathlib import Path

import matplotlib.figure
import pytest

from hyena_dist.tracking import figures, plot_time

PNG = b"\x89PNG\r\n"
PHASES = ("forward", "backward", "optimizer", "reduce", "data", "other", "evaluation", "checkpoint")


def rows() -> list[dict[str, float]]:
    """Two stages of three rows, 10 steps each; phases take 1, 2, 3 ... ms, and evaluation comes once a stage."""
    out: list[dict[str, float]] = [{"step": 10, "valid/valid/loss": 1.2}]
    for i in range(6):
        row: dict[str, float] = {"step": 10 * (i + 1), "train/seq_length": 256 if i < 3 else 2048}
        row |= {f"time/{phase}_s": (n + 1) / 1e3 for n, phase in enumerate(PHASES[:6])}
        row |= {"time/evaluation_s": 0.063 if i % 3 == 1 else 0.0, "time/checkpoint_s": 0.0, "throughput/mfu": 0.25}
        out.append(row)
    return out


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """The figures that are saved, to be looked at before they are pixels."""
    found: list[matplotlib.figure.Figure] = []
    save = figures.save

    def keep(figure: matplotlib.figure.Figure, path: Path) -> None:
        found.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "save", keep)
    return found


def test_the_numbers_beside_the_picture(tmp_path: Path) -> None:
    plot_time(rows(), tmp_path / "plots/time.png")
    assert (tmp_path / "plots/time.png").read_bytes().startswith(PNG)
    with (tmp_path / "plots/time.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == [10, 20, 30, 40, 50, 60]
    for row in table:
        assert float(row["step_s"]) == pytest.approx(sum(float(row[f"{phase}_s"]) for phase in PHASES[:6]))
        assert (row["backward_s"], row["mfu"]) == ("0.002", "0.25")


def test_it_can_be_read_alone(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    """A title, units, a legend, the stages' lengths, and for each stage its step time, MFU and shares."""
    plot_time(rows(), tmp_path / "time.png")
    (figure,) = drawn
    top, bottom = figure.axes
    assert figure.get_suptitle() == "Where the time of the run goes"
    assert (top.get_xlabel(), top.get_ylabel()) == ("optimizer step", "time per step")
    assert bottom.get_xlabel() == "share of the stage's time"
    assert "ms" in "".join(label.get_text() for label in top.get_yticklabels())
    assert len(figure.legends[0].get_texts()) == len(PHASES)
    assert [text.get_text() for text in top.texts] == ["length 256", "2k"]
    assert [label.get_text() for label in bottom.get_yticklabels()] == ["length 256", "length 2k"]
    written = [text.get_text() for text in bottom.texts]
    assert written.count("21.0 ms a step\nMFU 25.0%") == 2
    # 21 ms a step and, in one row of three, 63 ms a step of evaluation: half of the bar.
    assert written.count("50%") == 2


@pytest.mark.parametrize(
    "case",
    [
        [],
        rows()[:1],
        rows()[:2],
        [{"step": 1, "time/step_s": 1.0}],
        [row | {"throughput/mfu": math.nan} for row in rows()],
    ],
    ids=["empty", "validation only", "one row", "an older run", "no MFU"],
)
def test_odd_runs_are_drawn_too(tmp_path: Path, case: list[dict[str, float]]) -> None:
    plot_time(case, tmp_path / "time.png")
    assert (tmp_path / "time.png").read_bytes().startswith(PNG)
    assert (tmp_path / "time.csv").exists()
