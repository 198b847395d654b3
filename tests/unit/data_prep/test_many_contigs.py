"""Twenty thousand contigs at 256 file descriptors: all that reads a store works, and nothing grows with them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CONTIGS = 20_000
CONFIG = """
name: run
model: {d_model: 16, n_layer: 1, l_max: 64, filter_order: 16}
optimizer: {lr: 1.0e-3}
train:
  curriculum: [{seq_length: 64, train_iters: 10}]
  global_batch_size: 64
  micro_batch_size: 64
evaluation: {max_tokens: 4096, lengths: [64]}
tracking: {mlflow: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTA file of 20,000 contigs of 200 to 400 bases, and its store."""
    path = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(0)
    text = draw.choice(np.frombuffer(b"ACGT", np.uint8), 1_000_000)
    for start in draw.integers(0, text.size, 2000).tolist():
        text[start : start + 100] |= 32
        text[start + 200 : start + 210] = ord("N")
    letters = text.tobytes()
    with (path / "x.fa").open("wb") as stream:
        for number in range(CONTIGS):
            start = int(draw.integers(0, 999_000))
            stream.write(b">scaffold_%d\n%s\n" % (number, letters[start : start + int(draw.integers(200, 401))]))
    limited(path, "data", "build", "x.fa", "--out", "s", "--soft-mask", "--split-fractions", "0.7,0.3")
    return path


def limited(folder: Path, *words: str) -> str:
    """Run `hyena-dist` in a folder, in a process that may have 256 files open, and return its output."""
    command = ["bash", "-c", 'ulimit -n 256; exec "$@"', "bash", sys.executable, "-m", "hyena_dist", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_store_is_small(folder: Path) -> None:
    files = [path for path in (folder / "s").rglob("*") if path.is_file()]
    assert len(files) < 25
    bases = json.loads((folder / "s/manifest.json").read_text())["bases"]
    assert sum(path.stat().st_size for path in files) < 0.8 * bases  # 127 bytes of the index are for each contig
    assert (folder / "s/manifest.json").stat().st_size < 6000


def test_looking(folder: Path) -> None:
    assert "5-mers on the stored strand" in limited(folder, "data", "stats", "s", "--kmers", "5", "--csv", "t.csv")
    assert (folder / "t.csv").read_text().count("\ncontig,") == CONTIGS
    assert "verified" in limited(folder, "data", "verify", "s")


def test_it_comes_back(folder: Path) -> None:
    limited(folder, "data", "shards", "s", "--out", "shards")
    for store, out in (("s", "y.fa"), ("shards", "z.fa")):
        limited(folder, "data", "export-fasta", store, "--out", out, "--line-width", "0")
    assert (folder / "y.fa").read_bytes() == (folder / "x.fa").read_bytes()
    lines = (folder / "x.fa").read_bytes().splitlines()
    upper = [line if line.startswith(b">") else line.upper() for line in lines]
    assert (folder / "z.fa").read_bytes().splitlines() == upper


def test_training(folder: Path) -> None:
    (folder / "run.yaml").write_text(f"data: {{path: {folder / 's'}}}\noutput_dir: {folder / 'runs'}\n{CONFIG}")
    limited(folder, "train", "run.yaml")
    steps = [json.loads(line) for line in (folder / "runs/run/metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in steps) == 10
