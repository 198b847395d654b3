"""Inputs are labelled with species, and contigs get their names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.inputs import Input, Rename, parse_inputs, parse_labelled
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

Run = Callable[..., str]


def test_labels(tmp_path: Path) -> None:
    assert parse_labelled("human=a/b=c.fa") == ("human", Path("a/b=c.fa"))
    assert parse_labelled("a/human=c.fa") == (None, Path("a/human=c.fa"))
    assert parse_labelled(Path("human=c.fa")) == (None, Path("human=c.fa"))
    (tmp_path / "k=31").write_text(">a\nA\n")
    assert Input.parse(f"{tmp_path}/k=31").species is None


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("ucsc", {"20": "chr20", "chr20": "chr20", "MT": "chrM", "M": "chrM", "X": "chrX", "2L": "chr2L"}),
        ("ucsc", {"99": "chr99", "100": "chr100", "120": "chr120", "chr120": "chr120", "1000A": "chr1000A"}),
        ("ensembl", {"chr99": "99", "chr100": "100", "120": "120"}),
        ("ucsc", {"XII": "chrXII", "KI270728.1": "KI270728.1", "chrUn_KI270728v1": "chrUn_KI270728v1"}),
        ("ensembl", {"chr20": "20", "20": "20", "chrM": "MT", "chrMT": "MT", "chrX": "X", "chr2a": "2a"}),
        ("ensembl", {"chr1_KI270706v1_random": "chr1_KI270706v1_random", "scaffold_7": "scaffold_7"}),
    ],
)
def test_rules(rule: str, names: dict[str, str]) -> None:
    assert {name: Rename(rule)(name) for name in names} == names


def test_names_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("# old new\nCP068277.2\tchr1\n\nCP068276.2 chr2\n")
    rename = Rename(tmp_path / "names")
    assert [rename(name) for name in ("CP068277.2", "CP068276.2", "other")] == ["chr1", "chr2", "other"]
    assert re.fullmatch("[0-9a-f]{64}", rename.describe()["sha256"])


@pytest.mark.parametrize(
    ("text", "says"),
    [("a b c\n", "line 1: 'a b c'"), ("a b\na c\n", "line 2: 'a' has two new names"), ("\n", "has no names")],
)
def test_bad_names(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(UserError, match=says):
        Rename(tmp_path / "names")


def test_labels_on_some_inputs(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nA\n")
    with pytest.raises(UserError, match=r"x\.fa has no label and other inputs have; write species="):
        parse_inputs([f"human={tmp_path}/x.fa", f"{tmp_path}/x.fa"])


def test_species(tmp_path: Path, genome: Path, run: Run, refuse: Run) -> None:
    for name, text in (("h1.bed", "1 0 1500 train\n1 1500 3000 valid\n"), ("m.bed", "mouse.chr1 0 1000 test\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "more.fa").write_text(">chrM\nACGT\n")
    out = tmp_path / "s"
    inputs = [f"human={genome}", f"mouse={genome}", f"human={tmp_path}/more.fa"]
    run("build", *inputs, "--out", out, "--bed", f"human={tmp_path}/h1.bed", "--bed", tmp_path / "m.bed",
        "--rename", "ensembl")  # fmt: skip
    store = GenomeStore.open(out)
    assert list(store.contigs) == ["human.1", "human.2", "mouse.1", "mouse.2", "human.MT"]
    assert store.manifest["species"] == ["human", "mouse"]
    assert [source["species"] for source in store.manifest["sources"]] == ["human", "mouse", "human"]
    assert [store.species_of(name) for name in store.contigs] == ["human", "human", "mouse", "mouse", "human"]
    assert store.splits["valid"] == [("human.1", 1500, 3000)]
    assert store.splits["test"] == [("mouse.1", 0, 1000)]
    run("verify", out)

    missing = refuse("build", *inputs, "--out", tmp_path / "t", "--bed", f"human={tmp_path}/h1.bed")
    assert "species 'mouse' is in no interval" in missing
    run("build", *inputs, "--out", tmp_path / "t", "--valid-contigs", "human.chr2", "--test-contigs", "mouse.1")
    assert GenomeStore.open(tmp_path / "t").splits["valid"] == [("human.chr2", 0, 1000)]
