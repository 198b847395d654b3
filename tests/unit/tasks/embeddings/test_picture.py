"""The picture: similar rows are neighbours, and the CSV has what is drawn."""

import csv
from pathlib import Path

import numpy as np

from hyena_dist.tasks.embeddings.picture import MOST_POINTS, _some, draw


def test_rows_of_a_cluster_are_neighbours_and_the_csv_names_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = random.normal(size=(90, 12)).astype(np.float32)
    features[:, :4] += 30 * (labels == 1)[:, None]  # several columns: they are standardized before they are drawn
    features[:, 4:8] += 30 * (labels == 2)[:, None]
    draw(features, labels, ("a", "b", "c"), [f"s{i}" for i in range(90)], tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["name"] for row in rows] == [f"s{i}" for i in range(90)]
    assert [row["label"] for row in rows] == ["abc"[label] for label in labels]
    places = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    distances = np.linalg.norm(places[:, None] - places, axis=2) + np.diag([np.inf] * 90)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.95


def test_a_few_thousand_are_drawn_at_most() -> None:
    shown = _some(10 * MOST_POINTS, seed=1)
    assert len(shown) == len(set(shown.tolist())) == MOST_POINTS
    assert (np.diff(shown) > 0).all()
    assert _some(7, seed=1).tolist() == list(range(7))
