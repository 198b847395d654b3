"""`bench generate`: its figures follow from each other, and what it compares is the same computation."""

import csv
from pathlib import Path

import pytest

from hyena_dist.bench.generate import GenerateCase, bench_generate, measure


def test_the_error_is_that_of_fp32() -> None:
    found = measure(64, GenerateCase(d_model=16, n_layer=2, order=3, batch=2, prompt=10, device="cpu"))
    assert 0 < found.error < 1e-5
    assert found.seconds.shape == found.cpu_seconds.shape == (64,)
    assert found.prefill_s > 0


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = GenerateCase(d_model=16, n_layer=1, order=2, batch=1, prompt=0, device="cpu")
    bench_generate([64], case, tmp_path)
    name = "generate-cpu-1x16-order2-prompt0"
    with open(tmp_path / f"{name}.csv") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["length"] for row in rows] == [64]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["us_per_base"] / rows[0]["us_per_base"])
        assert row["total_s"] == pytest.approx(row["prefill_s"] + row["length"] * row["us_per_base"] / 1e6)
        assert row["times_less"] == pytest.approx(row["forward_s"] / row["total_s"])
    assert (tmp_path / f"{name}.json").exists()
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert capsys.readouterr().out.count("\n") == 2 + 1
