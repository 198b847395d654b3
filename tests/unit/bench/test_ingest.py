"""`bench ingest` on a small file."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from hyena_dist import UserError
from hyena_dist.bench.ingest import bench_ingest


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(tmp_path / "x.fa.gz", "wt") as stream:
        stream.write(">1\n" + "ACGT" * 20_000 + "\n")
    bench_ingest(tmp_path / "x.fa.gz", copies=2, repeats=1, out=tmp_path / "results")
    with open(tmp_path / "results/ingest.csv") as file:
        [row] = csv.DictReader(file)
    times = [float(row[column]) for column in ("gzip_s", "build_s", "verify_s")]
    assert min(times) > 0
    assert float(row["ratio"]) == pytest.approx((times[1] + times[2]) / times[0])
    assert 0.25 < float(row["bytes_per_base"]) < 1
    assert json.loads((tmp_path / "results/ingest.json").read_text())["copies"] == 2
    assert "medians" in capsys.readouterr().out


def test_what_is_no_gzip(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        bench_ingest(tmp_path / "none.fa.gz", 1, 1, None)
    (tmp_path / "x.fa.gz").write_text(">1\nACGT\n")
    with pytest.raises(UserError, match="give a FASTA file in gzip"):
        bench_ingest(tmp_path / "x.fa.gz", 1, 1, None)
