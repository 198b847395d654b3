"""`bench embed`: what is measured, its table and its environment."""

import csv
import json
from pathlib import Path

import pytest

from hyena_dist import UserError
from hyena_dist.bench.embed import WHAT, EmbedCase, bench_embed


@pytest.mark.usefixtures("started_at_once")
def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_embed(EmbedCase(length=2000, d_model=16, n_layer=2, device="cpu"), tmp_path)
    with open(tmp_path / "embed-cpu-2x16.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == list(WHAT)
    for row in rows:
        for seconds, ratio in (("seconds", "ratio"), ("cpu_seconds", "cpu_ratio")):
            assert float(row[ratio]) == pytest.approx(float(row[seconds]) / float(rows[0][seconds]))
        assert 0 < float(row["peak_gib"]) < 16
    assert json.loads((tmp_path / "embed-cpu-2x16.json").read_text())["length"] == 2000
    assert capsys.readouterr().out.count("\n") == 2 + len(WHAT)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="finds no GPU"):
        bench_embed(EmbedCase(2000, 16, 2, "cuda"), None)
