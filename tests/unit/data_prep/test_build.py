"""Building a store: what it holds, what it replaces, and what a failure leaves."""

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.cli import main
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import encode

Run = Callable[..., str]
Content = Callable[[Path], dict[str, bytes]]


def manifest_of(store: Path) -> dict:
    return json.loads((store / "manifest.json").read_text())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, genome: Path, run: Run, content: Content) -> None:
    for name in ("a", "b"):
        run("build", genome, "--out", tmp_path / name, "--soft-mask")
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    manifests = [json.loads(files.pop("manifest.json")) for files in (a, b)]
    assert a == b
    for manifest in manifests:
        del manifest["created"], manifest["command"]
    assert manifests[0] == manifests[1]


def test_the_command_in_the_manifest_builds_the_store_again(tmp_path: Path, genome: Path, run: Run) -> None:
    out = tmp_path / "a store"
    run("build", genome, "--out", out, "--soft-mask", "--valid-contigs", "chr2")
    words = shlex.split(manifest_of(out)["command"])
    assert words[:3] == ["hyena-dist", "data", "build"]
    words[words.index(str(out))] = str(tmp_path / "again")
    run(*words[2:])
    assert manifest_of(tmp_path / "again")["files"] == manifest_of(out)["files"]


@pytest.mark.parametrize("codec", ["packed", "none"])
def test_everything_opens_with_plain_zarr_and_numpy(tmp_path: Path, run: Run, codec: str) -> None:
    fasta = tmp_path / "x.fa"
    fasta.write_text(">gi|1|ref/2 x\nACGTN\n>..\nacg\n>__x\nT\n")
    run("build", fasta, "--out", tmp_path / "s", "--soft-mask", "--codec", codec)
    run("verify", tmp_path / "s")
    group = zarr.open_group(str(tmp_path / "s" / "genome.zarr"), mode="r")
    assert group.attrs["tokenizer"]["A"] == 7
    assert (group.attrs["format"], group.attrs["version"]) == ("hyena-dist-store", 3)
    assert group["tokens/0"][:].tolist() == [7, 8, 9, 10, 11, 7, 8, 9, 10]
    index = {path.stem: np.load(path) for path in (tmp_path / "s/index").iterdir()}
    assert index["names"].tobytes() == b"gi|1|ref/2..__x"
    assert (index["name_end"].tolist(), index["end"].tolist()) == ([10, 12, 15], [5, 8, 9])
    assert (index["by_name"].tolist(), index["place"].tolist()) == ([1, 2, 0], [0, 5, 8])
    assert index["soft_mask"].tolist() == [5, 8]
    assert index["train"].tolist() == [[0, 4], [5, 8], [8, 9]]
    assert GenomeStore.open(tmp_path / "s").read("gi|1|ref/2", 1, 4).tolist() == [8, 9, 10]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text("ab:|", min_size=1, max_size=3), st.text("ACGTNacgtn", min_size=1, max_size=50),
                        min_size=1, max_size=6),
        min_size=1, max_size=4),
    st.booleans(),
)  # fmt: skip
def test_any_inputs_of_any_species_come_back(
    tmp_path_factory: pytest.TempPathFactory, genomes: list[dict[str, str]], one_task: bool
) -> None:
    """Inputs are read together or each for itself, into arrays that all may have several files."""
    folder = tmp_path_factory.mktemp("any")
    inputs = []
    for number, genome in enumerate(genomes):
        path = folder / f"{number}.fa"
        path.write_text("".join(f">{name}\n{text}\n" for name, text in genome.items()))
        inputs.append(f"s{number}={path}")
    with pytest.MonkeyPatch.context() as patch:
        if not one_task:
            patch.setattr("data_prep.ingest._TASK_BYTES", 1)
        build_store(inputs, folder / "s", BuildOptions(soft_mask=True), say=lambda _: None)
    store = GenomeStore.open(folder / "s")
    assert store.contigs == {f"s{i}.{name}": len(text) for i, each in enumerate(genomes) for name, text in each.items()}
    assert store.contigs.lengths.tolist() == list(store.contigs.values())
    assert ("aaaa" in store.contigs, "s9.a" in store.contigs) == (False, False)
    for number, genome in enumerate(genomes):
        for name, text in genome.items():
            contig = f"s{number}.{name}"
            assert store.species_of(contig) == f"s{number}"
            assert store.contigs.name(store.contigs.number[contig]) == contig
            assert np.array_equal(store.read(contig, 0, len(text)), encode(text.encode()))
            assert store.soft_mask(contig, 0, len(text)).tolist() == [letter.islower() for letter in text]


def test_second_build_keeps_the_store(tmp_path: Path, genome: Path, run: Run, content: Content) -> None:
    run("build", genome, "--out", tmp_path / "s")
    before = content(tmp_path)
    assert "kept" in run("build", genome, "--out", tmp_path / "s")
    assert content(tmp_path) == before


def test_another_store_is_replaced_only_if_asked(
    tmp_path: Path, genome: Path, run: Run, refuse: Callable[..., str]
) -> None:
    out, other = tmp_path / "s", tmp_path / "other.fa"
    other.write_text(">o\nACGT\n")
    run("build", genome, "--out", out)
    assert "other sequences (genome.fa)" in refuse("build", other, "--out", out)
    assert "soft_mask False instead of True" in refuse("build", genome, "--out", out, "--soft-mask")
    run("build", other, "--out", out, "--overwrite")
    assert list(GenomeStore.open(out).contigs) == ["o"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "other.fa", "s"]


def test_a_damaged_store_is_not_kept_silently(
    tmp_path: Path, genome: Path, run: Run, refuse: Callable[..., str]
) -> None:
    run("build", genome, "--out", tmp_path / "s")
    (tmp_path / "s/genome.zarr/tokens/0/c/0").unlink()
    assert "tokens/0/c/0 is missing" in refuse("build", genome, "--out", tmp_path / "s")


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_folder_that_is_no_store_is_never_replaced(
    tmp_path: Path, genome: Path, refuse: Callable[..., str], flags: list[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    assert "left as it is" in refuse("build", genome, "--out", tmp_path / "thesis", *flags)
    assert "left as it is" in refuse("build", genome, "--out", genome, *flags)


def test_an_empty_folder_is_used(tmp_path: Path, genome: Path, run: Run) -> None:
    (tmp_path / "s").mkdir()
    run("build", genome, "--out", tmp_path / "s")
    run("verify", tmp_path / "s")


def test_intervals_are_what_the_splits_are_made_of(tmp_path: Path, genome: Path, run: Run) -> None:
    run("build", genome, "--out", tmp_path / "s", "--split-fractions", "0.8,0.2", "--interval-length", 1000)
    store = GenomeStore.open(tmp_path / "s")
    assert store.splits["train"] == [("chr1", 0, 2400), ("chr2", 0, 800)]
    assert store.intervals["train"] == [("chr1", 0, 1000), ("chr1", 1000, 2000), ("chr1", 2000, 2400), ("chr2", 0, 800)]
    assert not (tmp_path / "s/index/train_intervals.npy").exists()
    bed = tmp_path / "x.bed"
    bed.write_text("chr2 500 900 valid\nchr1 100 200 train\nchr1 50 150 train\nchr1 50 150 train\n")
    run("build", genome, "--out", tmp_path / "t", "--bed", bed)
    store = GenomeStore.open(tmp_path / "t")
    assert store.splits["train"] == [("chr1", 50, 200)]
    assert store.intervals["train"] == [("chr1", 100, 200), ("chr1", 50, 150), ("chr1", 50, 150)]


def test_the_index_describes_the_content(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.fa").write_text(">a\nAACGTNNnac\n>b\nNN\n")
    run("build", tmp_path / "x.fa", "--out", tmp_path / "s")
    contigs = GenomeStore.open(tmp_path / "s").contigs
    assert contigs == {"a": 10, "b": 2}
    assert contigs.sha256[0].tobytes() == hashlib.sha256(bytes([7, 7, 8, 9, 10, 11, 11, 11, 7, 8])).digest()
    assert contigs.composition.tolist() == [[3, 2, 1, 1, 3], [0, 0, 0, 0, 2]]
    assert contigs.soft_masked.tolist() == [3, 0]
    assert contigs.species.tolist() == [-1, -1]


@pytest.mark.parametrize("processes", [1, 3])
def test_the_number_of_processes_changes_nothing(
    tmp_path: Path, processes: int, run: Run, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.ingest._TASK_BYTES", 100_000)
    draw = np.random.default_rng(0)
    inputs = []
    for number in range(5):
        path = tmp_path / f"{number}.fa"
        sizes = [(5 - number) * 30_000 + 1, 70_000]
        letters = [draw.choice(np.frombuffer(b"ACGTacgtN", np.uint8), size).tobytes() for size in sizes]
        path.write_bytes(b"".join(b">%d-%d\n%s\n" % (number, i, text) for i, text in enumerate(letters)))
        inputs.append(path)
    run("build", *inputs, "--out", tmp_path / "1", "--soft-mask", "--processes", 1)
    run("build", *inputs, "--out", tmp_path / "n", "--soft-mask", "--processes", processes)
    one, many = content(tmp_path / "1"), content(tmp_path / "n")
    del one["manifest.json"], many["manifest.json"]
    assert one == many
    assert list(GenomeStore.open(tmp_path / "n").contigs) == [f"{number}-{i}" for number in range(5) for i in range(2)]


def test_a_bed_file_is_read_before_the_work(tmp_path: Path, genome: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "x.bed").write_text("chr1 5 3 train\n")
    assert "interval 5-3 has no base" in refuse("build", genome, "--out", tmp_path / "s", "--bed", tmp_path / "x.bed")
    assert not (tmp_path / "s.partial").exists()


@pytest.mark.parametrize("command", ["build", "verify", "stats"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"hyena-dist data {command} " in capsys.readouterr().out
