"""Contigs of the same sequence are noticed where one of them is held out and the other is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.twins import Twins, find_twins
from hyena_dist.data.store.ranges import Regions
from tests.unit.data_prep.contigs import contigs_of

Run = Callable[..., str]
SEQUENCE = "ACGTTGCAAC" * 10


@given(
    st.lists(st.lists(st.sampled_from(["train", "valid", "test"]), min_size=12, max_size=12), min_size=2, max_size=4)
)
def test_every_position_counted_by_itself(of_contigs: list[list[str]]) -> None:
    splits: dict[str, list[tuple[str, int, int]]] = {"train": [], "valid": [], "test": []}
    for number, kinds in enumerate(of_contigs):
        for at, kind in enumerate(kinds):
            splits[kind].append((str(number), at, at + 1))
    exposed = sum(0 < sum(kind != "train" for kind in kinds) < len(kinds) for kinds in zip(*of_contigs, strict=True))
    names = [str(number) for number in range(len(of_contigs))]
    lengths = dict.fromkeys(names, 12)
    for hashes in (None, bytes(range(32 * len(names)))):
        contigs = contigs_of(lengths, hashes)
        found = list(find_twins(contigs, {split: Regions.of(contigs, rows) for split, rows in splits.items()}))
        assert found == ([Twins(names, exposed)] if exposed and not hashes else [])


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """A sequence twice, in other cases and lines, one like it, and two contigs of N alone."""
    path = tmp_path / "x.fa"
    path.write_text(f">a\n{SEQUENCE}\n>b\n{SEQUENCE[:7].lower()}\n{SEQUENCE[7:]}\n>c\n{SEQUENCE}A\n>n\nNNN\n>m\nNNN\n")
    return path


def test_the_commands_warn(tmp_path: Path, fasta: Path, run: Run) -> None:
    says = (
        "warning: contigs 'a' and 'b' have the same sequence, and training can read 100 bases of it on one that are "
        "held out on another; hold out all of them, or leave one in"
    )
    assert says in run("build", fasta, "--out", tmp_path / "s", "--valid-contigs", "b,n")
    assert says in run("leaks", tmp_path / "s", "--lengths", 9)
    run("shards", tmp_path / "s", "--out", tmp_path / "shards")
    assert run("leaks", tmp_path / "shards", "--lengths", 9).count("warning") == 1


def test_twins_that_are_split_alike_are_no_leak(tmp_path: Path, fasta: Path, run: Run) -> None:
    assert "warning" not in run("build", fasta, "--out", tmp_path / "s")
    assert "warning" not in run("build", fasta, "--out", tmp_path / "t", "--valid-contigs", "a", "--test-contigs", "b")
    (tmp_path / "x.bed").write_text("a 0 100 train\nb 30 50 valid\n")
    assert "can read 20 bases" in run("build", fasta, "--out", tmp_path / "u", "--bed", tmp_path / "x.bed")
