"""Every plot is written with its numbers beside it, and no labels overlap."""

import csv
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.tracking import figures, plot_ppl_by_length, plot_training
from hyena_dist.tracking.figures import _spread, short_length
from hyena_dist.tracking.plots import _smooth

PNG = b"\x89PNG\r\n"


def rows() -> list[dict[str, float]]:
    out: list[dict[str, float]] = []
    for step in range(1, 61):
        length = 256 if step <= 20 else 1024 if step <= 40 else 4096
        out.append(
            {
                "step": step,
                "time": float(step),
                "train/loss": 1.4 - step / 200,
                "train/lr": 1e-3 / step,
                "train/tokens": step * 8192,
                "train/seq_length": length,
            }
        )
        if step % 30 == 0:
            out.append({"step": step, "time": float(step), "valid/test/loss": 1.3 - step / 300})
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_plot_and_its_numbers(tmp_path: Path) -> None:
    plot_training(rows(), tmp_path / "plots" / "training.png")
    assert (tmp_path / "plots" / "training.png").read_bytes().startswith(PNG)
    written = table(tmp_path / "plots" / "training.csv")
    train = [row for row in written if row["series"] == "train"]
    assert [float(row["loss"]) for row in train] == [1.4 - step / 200 for step in range(1, 61)]
    assert [int(row["tokens"]) for row in train] == [step * 8192 for step in range(1, 61)]
    assert {row["seq_length"] for row in train} == {"256", "1024", "4096"}
    assert float(train[9]["lr"]) == 1e-4
    valid = [row for row in written if row["series"] == "valid/test"]
    assert [(float(row["tokens"]), float(row["loss"])) for row in valid] == [(30 * 8192, 1.2), (60 * 8192, 1.1)]


@pytest.mark.parametrize(
    "case",
    [
        [],
        rows()[:1],
        [{"step": 1, "valid/test/loss": 1.0}],
        [{**row, "train/loss": math.nan} for row in rows()[:5]],
        [{**row, "train/loss": 1.0} for row in rows()[:5]],
        [{**row, "train/seq_length": 1024 * (i + 1)} for i, row in enumerate(rows()[:25])],
    ],
    ids=["empty", "one row", "validation only", "diverged", "flat", "many stages"],
)
def test_odd_runs_are_drawn_too(tmp_path: Path, case: list[dict[str, float]]) -> None:
    plot_training(case, tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(PNG)


def test_perplexity_plot_and_its_numbers(tmp_path: Path) -> None:
    plot_ppl_by_length(
        {1024: (3.1, 3.05, 3.15), 256: (3.2, 3.15, 3.25), 4096: (3.0, 3.0, 3.1)},
        {0: 3.93, 8: 3.429, 7: 3.43},
        tmp_path / "ppl.png",
    )
    assert (tmp_path / "ppl.png").read_bytes().startswith(PNG)
    written = table(tmp_path / "ppl.csv")
    assert [(row["context_length"], row["ppl"], row["ppl_low"], row["ppl_high"]) for row in written[:3]] == [
        ("256", "3.2", "3.15", "3.25"),
        ("1024", "3.1", "3.05", "3.15"),
        ("4096", "3.0", "3.0", "3.1"),
    ]
    assert [(row["markov_order"], row["ppl"]) for row in written[3:]] == [("0", "3.93"), ("7", "3.43"), ("8", "3.429")]


def test_perplexity_plot_without_markov_chains(tmp_path: Path) -> None:
    plot_ppl_by_length({1024: (3.1, 3.05, 3.15)}, {}, tmp_path / "ppl.png")
    assert (tmp_path / "ppl.png").read_bytes().startswith(PNG)


def test_perplexity_of_one_window_has_no_interval(tmp_path: Path) -> None:
    plot_ppl_by_length({256: (3.1, 3.05, 3.15), 1024: (3.0, None, None)}, {}, tmp_path / "ppl.png")
    assert (tmp_path / "ppl.png").read_bytes().startswith(PNG)
    assert [(row["ppl"], row["ppl_low"]) for row in table(tmp_path / "ppl.csv")] == [("3.1", "3.05"), ("3.0", "")]


@given(st.lists(st.floats(1, 5), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_labels_are_apart_and_in_order(values: list[float], gap: float) -> None:
    places = _spread(sorted(values), gap)
    assert len(places) == len(values)
    assert all(b - a >= gap * (1 - 1e-6) for a, b in pairwise(places))


def test_labels_with_room_stay_where_they_are() -> None:
    assert _spread([1.0, 2.0, 2.05, 3.0], 0.1) == pytest.approx([1.0, 1.975, 2.075, 3.0])


@pytest.mark.parametrize(("count", "labels"), [(99, ["train"]), (200, ["train", "train, smoothed"])])
def test_a_curve_of_few_rows_is_not_called_smoothed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, labels: list[str]
) -> None:
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    losses = np.random.default_rng(0).uniform(1, 1.4, count)
    plot_training(
        [{"step": i, "train/loss": x, "train/tokens": i * 100, "train/lr": 1e-3} for i, x in enumerate(losses, 1)],
        tmp_path / "t.png",
    )
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == labels


def test_smoothing_is_a_centred_mean_over_finite_values() -> None:
    values = np.arange(300.0)
    np.testing.assert_allclose(_smooth(values)[3:-3], values[3:-3])
    values[100] = np.nan
    assert np.isfinite(_smooth(values)).all()
    assert _smooth(values)[100] == pytest.approx(100)


def test_short_lengths() -> None:
    assert [short_length(n) for n in (256, 1000, 1024, 32768, 160_000, 2**20)] == [
        "256",
        "1,000",
        "1k",
        "32k",
        "160,000",
        "1M",
    ]
