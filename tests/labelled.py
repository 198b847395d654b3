"""Small sets of labelled sequences, made from a seed."""

import csv
from pathlib import Path

import numpy as np

MOTIF = "TATAAATA"
"""What the sequences of class `with` have somewhere, and of the others few."""


def random_bases(generator: np.random.Generator, length: int) -> str:
    return "".join(generator.choice(list("ACGT"), length))


def write_classes(path: Path, count: int = 96, longest: int = 48, seed: int = 0) -> Path:
    """A CSV of sequence, label (one of three by the motif that was put in) and split; of several lengths."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "label", "split"])
        for number in range(count):
            label = ["none", "tata", "gc"][number % 3]
            bases = random_bases(generator, int(generator.integers(longest // 2, longest + 1)))
            motif = {"none": "", "tata": MOTIF, "gc": "GGGCGGGG"}[label]
            at = int(generator.integers(0, len(bases) - len(motif)))
            bases = bases[:at] + motif + bases[at + len(motif) :]
            rows.writerow([bases, label, ["train", "train", "valid", "test"][number // 3 % 4]])
    return path


def write_flags(path: Path, count: int = 64, longest: int = 48, seed: int = 0) -> Path:
    """A CSV of two labels of 0 and 1, one of them sometimes unknown, and split."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "rich", "starts_with_a", "split"])
        for number in range(count):
            bases = random_bases(generator, int(generator.integers(longest // 2, longest + 1)))
            rich = int(bases.count("G") + bases.count("C") > len(bases) / 2)
            first = "" if number % 5 == 4 else int(bases[0] == "A" or bases[0] == "C")
            rows.writerow([bases, rich, first, ["train", "train", "valid", "test"][number % 4]])
    return path


def write_numbers(path: Path, count: int = 64, longest: int = 48, seed: int = 0) -> Path:
    """A CSV of a number, the share of G and C in percent, and split."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "label", "split"])
        for number in range(count):
            bases = random_bases(generator, int(generator.integers(longest // 2, longest + 1)))
            share = 100 * (bases.count("G") + bases.count("C")) / len(bases)
            rows.writerow([bases, f"{share:.2f}", ["train", "train", "valid", "test"][number % 4]])
    return path


def write_bases(path: Path, count: int = 64, longest: int = 48, seed: int = 0) -> Path:
    """A CSV in which each base has a label: whether the base before it, in reading direction, is a G."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "label", "split"])
        for number in range(count):
            bases = random_bases(generator, int(generator.integers(longest // 2, longest + 1)))
            labels = "".join("g" if before == "G" else "n" for before in "-" + bases[:-1])
            rows.writerow([bases, labels, ["train", "train", "valid", "test"][number % 4]])
    return path


WRITERS = {
    "single_label": write_classes,
    "multi_label": write_flags,
    "regression": write_numbers,
    "per_base": write_bases,
}
