"""Small labelled sets in files and in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hyena_dist.data.tokenizer import decode, encode
from hyena_dist.tasks.labelled import Examples, LabelledData


def texts(count: int, length: int = 40, seed: int = 0) -> list[str]:
    """Random sequences, of which no two are alike at this length."""
    drawn = np.random.default_rng(seed).integers(0, 4, (count, length))
    return ["".join("ACGT"[i] for i in row) for row in drawn]


def examples(sequences: Sequence[str]) -> Examples:
    tokens = [encode(sequence) for sequence in sequences]
    lengths = np.array([each.size for each in tokens], np.int64)
    return Examples([str(i) for i in range(len(tokens))], lengths, np.zeros(len(tokens), np.int64), tokens.__getitem__)


def written(data: LabelledData) -> dict[str, list[tuple[str, str, object]]]:
    """Name, sequence and label of all, by split."""
    return {
        name: [
            (split.names[i], decode(split.read(i)), split.labels[i].tolist())
            for i in range(len(split))
        ]
        for name, split in data.splits.items()
    }  # fmt: skip


def write(path: Path, *rows: Sequence[object], mark: str = ",") -> str:
    """Write a table, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(mark.join(map(str, row)) + "\n" for row in rows))
    return str(path)
