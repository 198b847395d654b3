"""Scores by several processes, and by processes that are killed: always the bytes that one process writes."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hyena_dist
from tests.processes import Ranks, run_cli

GOLDEN = Path(__file__).parents[1] / "golden/tiny"
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""An environment in which sums are added in one order, as torchrun has it for several processes."""


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen sequences of 20 to 700 bases, which need windows."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("sequences") / "x.fa"
    lengths = enumerate(rng.integers(20, 700, 24))
    path.write_text("".join(f">s{i}\n{''.join(rng.choice(list('ACGTN'), length))}\n" for i, length in lengths))
    return path


def job(fasta: Path, out: Path) -> None:
    hyena_dist.score(
        GOLDEN, fasta, out=out, strands="both", per_base=True, overlap=100, max_tokens_per_batch=500
    )  # about 30 parts of some 20 ms


def test_killed_at_random_moments(fasta: Path, tmp_path: Path) -> None:
    """Killed jobs go on with what is done, whatever the number of processes, and their file is the same to the byte."""
    for whole in ("warm.parquet", "whole.parquet"):
        begin = time.monotonic()
        Ranks(1, job, fasta, tmp_path / whole).results()
        duration = time.monotonic() - begin
    draw = random.Random(time.time_ns())
    kept = []
    for trial in range(3):
        out = tmp_path / f"killed-{trial}.parquet"
        parts = out.with_name(f"{out.name}.partial")
        while not out.exists() or parts.exists():
            ranks = Ranks(draw.choice((1, 2, 3)), job, fasta, out)
            time.sleep(draw.uniform(0.1, 0.7) * duration)
            ranks.kill()
            kept.append(len(list(parts.glob("part-*"))))
        assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert any(kept), "no process was killed at work"
    assert not list(tmp_path.glob("**/*.partial"))


def test_two_ranks_of_torchrun_write_what_one_process_writes(fasta: Path, tmp_path: Path) -> None:
    words = ["score", str(fasta), "--model", str(GOLDEN), "--overlap", "100", "--max-tokens-per-batch", "5000"]
    for launcher, name in (([], "one.csv"), (LAUNCH, "two.csv")):
        command = [sys.executable, *launcher, "-m", "hyena_dist", *words, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=ONE_THREAD)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert f"wrote {tmp_path / name}" in done.stdout
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "two.csv"]


def test_parts_of_another_job_are_refused(fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    parts = tmp_path / "x.parquet.partial"
    ranks = Ranks(1, job, fasta, out)
    while not list(parts.glob("part-*")):
        time.sleep(0.01)
    ranks.kill()
    found = run_cli("score", str(fasta), "--model", str(GOLDEN), "--overlap", "100", "--out", str(out))
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "another job with another max_tokens_per_batch, per_base, strands" in found.stderr
    assert list(parts.glob("part-*"))  # which are kept


def test_a_reader_that_leaves(fasta: Path, tmp_path: Path) -> None:
    words = ["score", str(fasta), "--model", str(GOLDEN), "--overlap", "9", "--out", str(tmp_path / "x.csv")]
    command = [sys.executable, "-m", "hyena_dist", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    assert process.wait(200) == 0
    assert (tmp_path / "x.csv").read_text().count("\n") == 25
