"""`bench store` at a small size."""

import csv
import json
from pathlib import Path

import pytest

from hyena_dist.bench.store import bench_store


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_store(300, 100_000, repeats=1, out=tmp_path / "results")
    with open(tmp_path / "results/store.csv") as file:
        many, one = csv.DictReader(file)
    assert (many["contigs"], one["contigs"], one["bases"]) == ("300", "1", "100000")
    for row in (many, one):
        assert float(row["build_ratio"]) == pytest.approx(float(row["build_s"]) / float(row["gzip_s"]))
        assert float(row["us_per_window"]) > 0
        assert 0 < float(row["open_mb"]) < float(row["build_mb"]) * 2
        assert int(float(row["files"])) < 25
    assert json.loads((tmp_path / "results/store.json").read_text())["descriptors"] == 256
    assert "300 contigs of" in capsys.readouterr().out
