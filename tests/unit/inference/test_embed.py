"""`embed` from Python and from the command line: files, refusals, and jobs that are killed."""

import doctest
import filecmp
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr

import hyena_dist
from hyena_dist.cli import main
from hyena_dist.inference.parts import PartFolder
from tests.configs import refusal
from tests.processes import SERVER

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


def test_a_finished_job_is_not_done_again(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    hyena_dist.embed(TINY, TEXTS, out=out)
    written = out.stat()
    hyena_dist.embed(TINY, TEXTS, out=out)
    assert out.stat() == written
    assert "is not what this would make" in refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=out, pool="last"))


def test_parts_of_another_job_are_refused(tmp_path: Path) -> None:
    PartFolder(tmp_path / "x.zarr", {"sequences": "others", "pool": "mean"})
    said = refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=tmp_path / "x.zarr"))
    assert f"{tmp_path}/x.zarr.partial holds parts of another job with another" in said
    assert "sequences" in said


def run_job(rank: int, world_size: int, out: Path) -> None:
    """Do a share of a job of 48 parts, as a process under a launcher does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    texts = {str(i): "ACGTTGCATCA" * (12 + i % 7) for i in range(48)}
    hyena_dist.embed(TINY, texts, out=out, bin_size=25, strands="both", max_tokens_per_batch=1)


def start(out: Path, world_size: int) -> list[SERVER.Process]:  # type: ignore[name-defined]
    processes = [SERVER.Process(target=run_job, args=(rank, world_size, out)) for rank in range(world_size)]
    for process in processes:
        process.start()
    return processes


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_a_job_that_is_killed_at_random_ends_in_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    whole, killed = tmp_path / f"whole{suffix}", tmp_path / f"killed{suffix}"
    (process,) = start(whole, 1)
    process.join()
    draw = random.Random(0)
    kills = 0
    while not killed.exists():
        processes = start(killed, 1 + kills % 2)
        deadline = time.monotonic() + draw.uniform(0.1, 0.5) * (1 + kills / 10)
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        kills += any(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
    (process,) = start(killed, 1)  # what a killed process has left is tidied up, or there is nothing to do
    process.join()
    assert process.exitcode == 0
    assert kills >= 2
    assert not killed.with_name(f"{killed.name}.partial").exists()
    assert same_bytes(whole, killed) if suffix == ".zarr" else whole.read_bytes() == killed.read_bytes()


def test_each_process_does_its_share_and_the_last_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    folder = tmp_path / "x.zarr.partial"
    for rank, parts in ((0, 24), (1, 0)):
        process = SERVER.Process(target=run_job, args=(rank, 2, out))
        process.start()
        process.join()
        assert len(list(folder.glob("part-*"))) == parts
    assert out.exists()
