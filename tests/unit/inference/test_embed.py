"""`embed` from Python and from the command line: files, refusals, and jobs that are killed."""

import doctest
import filecmp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr

import hyena_dist
from hyena_dist.cli import main
from hyena_dist.inference import embed as embed_module
from hyena_dist.inference.parts import PartFolder
from tests.configs import refusal

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "tiny"
TEXTS = {"a": "ACGTTGCANNACGT", "b": "ttg", "c": "CCATACGGACTTACCA", "d": "ACGTT"}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{name} of a test\n{text}\n" for name, text in TEXTS.items()))
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same_bytes(a: Path, b: Path) -> bool:
    names = files_below(a)
    return names == files_below(b) and filecmp.cmpfiles(a, b, names, shallow=False)[1:] == ([], [])


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for function in (hyena_dist.embed, hyena_dist.load):
        (test,) = doctest.DocTestFinder(recurse=False).find(function, "example", globs={})
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0


def test_files_hold_what_python_returns(fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--layers=0,-1", "--bin-size", "4", "--strands", "both", "--max-tokens-per-batch", "20"]
    for out in ("x.zarr", "x.parquet"):
        assert main(["embed", str(fasta), "--model", str(TINY), "--out", str(tmp_path / out), *options]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/x.zarr\nwrote {tmp_path}/x.parquet\n"
    found = hyena_dist.embed(TINY, TEXTS, layers=[0, -1], bin_size=4, strands="both", max_tokens_per_batch=20)
    assert found is not None
    assert found.names == list(TEXTS)
    assert found.offsets.tolist() == [0, 4, 5, 9, 11]
    root = zarr.open_group(tmp_path / "x.zarr", mode="r")
    table = pq.read_table(tmp_path / "x.parquet")
    for layer, rows in found.layers.items():
        np.testing.assert_array_equal(root[f"layers/{layer}"][:], rows)
        np.testing.assert_array_equal(np.stack(table[f"layer_{layer}"].to_pandas()), rows)
    assert root.attrs["bin_size"] == 4
    assert not list(tmp_path.glob("*.partial"))


def test_the_last_state_is_that_of_the_model() -> None:
    model = hyena_dist.load(TINY)
    found = hyena_dist.embed(model, [TEXTS["c"]], pool="last")
    with torch.no_grad():
        states = model(torch.tensor([[{"A": 7, "C": 8, "G": 9, "T": 10}[letter] for letter in TEXTS["c"]]]))
    assert found is not None
    np.testing.assert_allclose(found.layers[2][0], states.hidden_states[0, -1].numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "x.h5ad"], "three lines of `hyena-dist embed --help`"),
        (["--out", "x.csv"], "ends in .csv; name a file that ends in .zarr or .parquet"),
        (["--out", "nowhere/x.zarr"], "there is no folder"),
        (["--out", "x.zarr", "--layers", "3"], "layer 3 is none of the 2 layers"),
        (["--out", "x.zarr", "--layers", "a"], "--layers a is not a list of numbers"),
        (["--out", "there.zarr"], "exists and is not what this would make"),
        (["--out", "x.zarr", "--model", "nothing"], "there is no nothing"),
    ],
)
def test_mistakes_are_one_sentence_before_the_work(
    fasta: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.zarr").mkdir()
    assert main(["embed", str(fasta), "--model", str(TINY), *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "there.zarr"]


def test_sequences_that_cannot_be_embedded_are_refused_by_name() -> None:
    assert "'long' has 1,026 bases" in refusal(lambda: hyena_dist.embed(TINY, {"long": "A" * 1026}))
    assert "'gap' has no A, C, G or T" in refusal(lambda: hyena_dist.embed(TINY, {"gap": "NNN"}))
    assert "strands 'two' is not built" in refusal(lambda: hyena_dist.embed(TINY, ["A"], strands="two"))
    assert "store 'fp8' is not built" in refusal(lambda: hyena_dist.embed(TINY, ["A"], store="fp8"))


def test_a_finished_job_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x.parquet"
    hyena_dist.embed(TINY, TEXTS, out=out)
    monkeypatch.setattr(embed_module, "PartFolder", None)
    hyena_dist.embed(TINY, TEXTS, out=out)
    assert "is not what this would make" in refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=out, pool="last"))


def test_parts_of_another_job_are_refused(tmp_path: Path) -> None:
    PartFolder(tmp_path / "x.zarr", {"sequences": "others", "pool": "mean"})
    said = refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=tmp_path / "x.zarr"))
    assert f"{tmp_path}/x.zarr.partial holds parts of another job with another" in said
    assert "sequences" in said


JOB = """
import sys, time
import hyena_dist
from hyena_dist.inference.embedding_parts import PartLayout

write = PartLayout.write

def slowly(*arguments):
    time.sleep(0.1)
    write(*arguments)

PartLayout.write = slowly
texts = {str(i): "ACGTTGCATCA" * (1 + i % 7) for i in range(24)}
hyena_dist.embed(sys.argv[1], texts, out=sys.argv[2], bin_size=5, strands="both", max_tokens_per_batch=64)
"""


def start(out: Path, rank: int = 0, world_size: int = 1) -> "subprocess.Popen[bytes]":
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    environment = os.environ | ranks | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", JOB, str(TINY), str(out)], env=environment)


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_a_job_that_is_killed_goes_on_with_other_processes_to_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    whole, killed = tmp_path / f"whole{suffix}", tmp_path / f"killed{suffix}"
    both = [start(whole), start(killed)]
    folder = killed.with_name(f"{killed.name}.partial")
    while len(list(folder.glob("part-*"))) < 3:
        time.sleep(0.01)
    both[1].send_signal(signal.SIGKILL)
    assert both[1].wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert not killed.exists()
    second = [start(killed, rank, 2) for rank in (0, 1)]
    assert [process.wait(60) for process in [both[0], *second]] == [0, 0, 0]
    assert done
    assert not folder.exists()
    assert same_bytes(whole, killed) if suffix == ".zarr" else whole.read_bytes() == killed.read_bytes()
