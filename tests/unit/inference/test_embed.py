"""`embed` from Python and from the command line: what files hold, what is done again, and what is refused."""

import doctest
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

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "tiny"
TEXTS = {"a": "ACGTTGCANNACGT", "b": "ttg", "c": "CCATACGGACTTACCA", "d": "ACGTT"}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{name} of a test\n{text}\n" for name, text in TEXTS.items()))
    return path


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


def test_a_model_in_training_is_embedded_without_dropout_and_goes_on_training() -> None:
    model = hyena_dist.load(TINY)
    model.backbone.layers[0].dropout1.p = 0.5
    expected = hyena_dist.embed(model, TEXTS)
    found = hyena_dist.embed(model.train(), TEXTS)
    assert model.training
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found.layers[2], expected.layers[2])


def test_intervals_of_a_genome_and_rows_of_a_table_are_embedded_alike(fasta: Path, tmp_path: Path) -> None:
    (tmp_path / "in.bed").write_text("c\t0\t8\tx\t0\t+\nc\t2\t9\ty\t0\t-\n")
    (tmp_path / "in.csv").write_text(f"id,sequence\nx,{TEXTS['c'][:8]}\ny,TCCGTAT\n")
    found = [
        hyena_dist.embed(TINY, tmp_path / "in.bed", genome=fasta),
        hyena_dist.embed(TINY, tmp_path / "in.csv"),
        hyena_dist.embed(TINY, {"x": TEXTS["c"][:8], "y": "TCCGTAT"}),
    ]
    assert found[2] is not None
    for each in found[:2]:
        assert each is not None
        assert each.names == ["x", "y"]
        np.testing.assert_array_equal(each.layers[2], found[2].layers[2])


def test_bf16_computes_near_fp32(fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    assert main(["embed", str(fasta), "--model", str(TINY), "--out", str(out), "--dtype", "bf16"]) == 0
    exact = hyena_dist.embed(TINY, fasta)
    assert exact is not None
    difference = zarr.open_group(out, mode="r")["layers/2"][:] - exact.layers[2]
    assert 0 < np.abs(difference).max() < 0.05 * np.abs(exact.layers[2]).max()


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
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert "is not what this would make" in refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=out, pool="last"))


def test_a_job_that_was_killed_when_its_file_was_there_ends_by_tidying_up(tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    folder = tmp_path / "x.zarr.partial"
    hyena_dist.embed(TINY, TEXTS, out=out)
    folder.mkdir()
    (folder / "part-00000000").write_bytes(b"rows")
    hyena_dist.embed(TINY, TEXTS, out=out)
    assert not folder.exists()


def test_parts_of_another_job_are_refused(tmp_path: Path) -> None:
    PartFolder(tmp_path / "x.zarr", {"sequences": "others", "pool": "mean"})
    said = refusal(lambda: hyena_dist.embed(TINY, TEXTS, out=tmp_path / "x.zarr"))
    assert f"{tmp_path}/x.zarr.partial holds parts of another job with another" in said
    assert "sequences" in said
