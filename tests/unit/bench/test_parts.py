"""`bench parts`: the parts of a layer, their operations and what is refused."""

import csv
from pathlib import Path

import pytest

from hyena_dist import UserError
from hyena_dist.bench.parts import PartsCase, bench_parts, measure_parts
from tests.sizes import set_sizes


def test_parts_and_their_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, recomputed_from=0)
    length, d = 200, 16
    found = measure_parts(PartsCase(length, d, "fp32", "cpu", 1))
    assert [part.name for part in found] == ["MLP", "projections", "operator", "filter"]
    operations = {part.name: part.operations for part in found}
    assert operations["MLP"] == 7 * 2 * length * d * 4 * d  # two products, two gradients of each, fc1 again
    assert operations["projections"] == 2 * length * d * d * (4 * 3 + 3)  # in_proj has four of them, out_proj three
    for part in found:
        assert part.alone_s > 0
        assert part.name == "projections" or part.forward_backward_s > part.forward_s > 0


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_parts(PartsCase(70_000, 64, "fp32", "cpu", 1), tmp_path)
    with open(tmp_path / "parts-cpu-64-fp32.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["of_layer"]) for row in rows) == pytest.approx(1)
    for row in rows:
        assert float(row["to_alone"]) == pytest.approx(float(row["forward_backward_s"]) / float(row["alone_s"]))
    assert capsys.readouterr().out.count("\n") == 2 + 4 + 1


def test_too_short_a_sequence_is_refused() -> None:
    with pytest.raises(UserError, match="keeps everything"):
        bench_parts(PartsCase(8192, 128, "fp32", "cpu", 1), None)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UserError, match="--dtype fp8 is not built"):
        bench_parts(PartsCase(2**17, 128, "fp8", "cpu", 1), None)
