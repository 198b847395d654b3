"""Building a store: what it holds, what it replaces, and what a failure leaves."""

import errno
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from data_prep import shards
from data_prep.cli import main
from hyena_dist.data import GenomeStore
from hyena_dist.data.manifest import array_path

Run = Callable[..., str]
Content = Callable[[Path], dict[str, bytes]]


def manifest_of(store: Path) -> dict:
    return json.loads((store / "manifest.json").read_text())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, genome: Path, run: Run, content: Content) -> None:
    for name in ("a", "b"):
        run("build", genome, "--out", tmp_path / name, "--soft-mask", "--shard-window", 100)
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    manifests = [json.loads(files.pop("manifest.json")) for files in (a, b)]
    assert a == b
    for manifest in manifests:
        del manifest["created"], manifest["command"]
    assert manifests[0] == manifests[1]


def test_the_command_in_the_manifest_builds_the_store_again(tmp_path: Path, genome: Path, run: Run) -> None:
    out = tmp_path / "a store"
    run("build", genome, "--out", out, "--soft-mask", "--valid-contigs", "chr2", "--shard-window", 100)
    words = shlex.split(manifest_of(out)["command"])
    assert words[:3] == ["hyena-dist", "data", "build"]
    words[words.index(str(out))] = str(tmp_path / "again")
    run(*words[2:])
    assert manifest_of(tmp_path / "again")["zarr"] == manifest_of(out)["zarr"]


def test_zarr_arrays_open_with_plain_zarr(tmp_path: Path, run: Run) -> None:
    fasta = tmp_path / "x.fa"
    fasta.write_text(">gi|1|ref/2 x\nACGTN\n>..\nacg\n>__x\nT\n")
    run("build", fasta, "--out", tmp_path / "s", "--soft-mask")
    group = zarr.open_group(str(tmp_path / "s" / "genome.zarr"), mode="r")
    assert group.attrs["tokenizer"]["A"] == 7
    found = {array.attrs["contig"]: array[:].tolist() for _, array in group["contigs"].arrays()}
    assert found == {"gi|1|ref/2": [7, 8, 9, 10, 11], "..": [7, 8, 9], "__x": [10]}
    assert group[array_path("soft_mask", "..")][:].tolist() == [1, 1, 1]
    assert GenomeStore.open(tmp_path / "s").read("gi|1|ref/2", 1, 4).tolist() == [8, 9, 10]


def test_shards_are_plain_webdataset(tmp_path: Path, genome: Path, run: Run) -> None:
    import webdataset as wds

    run("build", genome, "--out", tmp_path / "s", "--shard-window", 65, "--split-fractions", "0.5,0.5")
    store = GenomeStore.open(tmp_path / "s")
    urls = [str(tmp_path / "s" / shard["path"]) for shard in store.manifest["shards"] if shard["split"] == "train"]
    covered = 0
    for sample in wds.WebDataset(urls, shardshuffle=False).decode():
        where = sample["json"]
        assert where["split"] == "train"
        expected = store.read(where["contig"], where["start"], where["end"])
        assert sample["tokens.npy"].dtype == np.uint8
        np.testing.assert_array_equal(sample["tokens.npy"], expected)
        covered += where["end"] - where["start"] - 1
    # Neighbours share one base, so that each base but a region's first is a target exactly once.
    assert covered == sum(region.end - region.start - 1 for region in store.splits["train"])


def test_shard_size(tmp_path: Path, run: Run) -> None:
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\n" + "ACGT" * 600_000 + "\n")
    run("build", fasta, "--out", tmp_path / "s", "--shard-megabytes", 1, "--split-fractions", "1,0")
    sizes = [shard["bytes"] for shard in manifest_of(tmp_path / "s")["shards"]]
    assert len(sizes) == 3
    assert max(sizes) <= 2**20 + 20_480


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
    (tmp_path / "s" / "shards" / "train-000000.tar").unlink()
    assert "train-000000.tar is missing" in refuse("build", genome, "--out", tmp_path / "s")


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_disk_full(
    tmp_path: Path, genome: Path, run: Run, refuse: Callable[..., str], monkeypatch, overwrite: bool
) -> None:
    out = tmp_path / "s"
    if overwrite:
        run("build", genome, "--out", out, "--soft-mask")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "_add_file", full)
    assert "No space left on device" in refuse("build", genome, "--out", out, *["--overwrite"] * overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", *["s"] * overwrite]


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, genome: Path, monkeypatch, capsys) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_add_file", interrupt)
    assert main(["build", str(genome), "--out", str(tmp_path / "s")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["genome.fa"]


@pytest.mark.parametrize("command", ["build", "verify", "stats"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"hyena-dist data {command} " in capsys.readouterr().out
