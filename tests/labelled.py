"""Small sets of labelled sequences, made from a seed."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

MOTIFS = {"none": "", "tata": "TATAAATA", "gc": "GGGCGGGG"}
"""What the sequences of each class have somewhere, and of the others few."""
Row = Callable[[int, str, np.random.Generator], Iterable[object]]
"""A function that returns sequence and labels of a row from its number and random bases."""


def write_rows(path: Path, labels: tuple[str, ...], row: Row, count: int, longest: int, block: int = 1) -> Path:
    """Write a CSV of sequences of several lengths, their labels and splits; `block` rows in turn are of one split."""
    generator = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", *labels, "split"])
        for number in range(count):
            length = int(generator.integers(longest // 2, longest + 1))
            bases = "".join(generator.choice(list("ACGT"), length))
            split = ("train", "train", "valid", "test")[number // block % 4]
            rows.writerow([*row(number, bases, generator), split])
    return path


def write_classes(path: Path, count: int = 96, longest: int = 48) -> Path:
    """A CSV of sequences and their class, one of three by the motif that was put in."""

    def row(number: int, bases: str, generator: np.random.Generator) -> tuple[str, str]:
        label, motif = list(MOTIFS.items())[number % 3]
        at = int(generator.integers(0, len(bases) - len(motif)))
        return bases[:at] + motif + bases[at + len(motif) :], label

    return write_rows(path, ("label",), row, count, longest, block=3)


def write_flags(path: Path) -> Path:
    """A CSV of two labels of 0 and 1, one of them sometimes unknown."""

    def row(number: int, bases: str, _: np.random.Generator) -> tuple[str, int, object]:
        return bases, int(2 * share_of_gc(bases) > 1), "" if number % 5 == 4 else int(bases[0] in "AC")

    return write_rows(
        path,
        (
            "rich",
            "starts_with_a",
        ),
        row,
        64,
        48,
    )


def write_numbers(path: Path) -> Path:
    """A CSV of a number, the share of G and C in percent."""
    return write_rows(path, ("label",), lambda _, bases, __: (bases, f"{100 * share_of_gc(bases):.2f}"), 64, 48)


def write_bases(path: Path) -> Path:
    """A CSV in which each base has a label: whether the base before it, in reading direction, is a G."""

    def row(_: int, bases: str, __: np.random.Generator) -> tuple[str, str]:
        return bases, "".join("g" if before == "G" else "n" for before in "-" + bases[:-1])

    return write_rows(path, ("label",), row, 64, 48)


def share_of_gc(bases: str) -> float:
    return (bases.count("G") + bases.count("C")) / len(bases)


WRITERS = {
    "single_label": write_classes,
    "multi_label": write_flags,
    "regression": write_numbers,
    "per_base": write_bases,
}
