"""The tables of READMEs, made from what was measured: jobs/results/gpu-*.csv, which `bench.gpu` writes.

A table stands between two comments that readers do not see; without any file a sentence says that nothing is measured.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyena_dist.bench.gpu.report import UNMEASURED, convolution_table, headline_table
from hyena_dist.errors import UserError

MARKS = ("<!-- python -m hyena_dist.bench.gpu tables -->", "<!-- end -->")
RESULTS = Path("jobs/results")
READMES = {Path("README.md"): (headline_table,), RESULTS / "README.md": (headline_table, convolution_table)}
"""File -> the tables that it holds for each machine."""


def write_tables(root: Path) -> None:
    """Put the tables of all measured machines into the READMEs of a clone.

    Raises:
        UserError: a README is missing, or has no place for them.
    """
    for path, makers in READMES.items():
        text = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
        before, found, rest = text.partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not (found and end):
            raise UserError(f"{root / path} has no place for tables; run this in a clone of the repository")
        tables = [_of_machine(file, makers) for file in sorted((root / RESULTS).glob("gpu-*.csv"))]
        text = "\n\n" + "\n\n".join(tables) + "\n\n" if tables else UNMEASURED
        (root / path).write_text(before + MARKS[0] + text + MARKS[1] + after, encoding="utf-8")


def _of_machine(file: Path, makers: Sequence[Any]) -> str:
    """Return a sentence about the machine that a file tells of, and its tables."""
    rows = read_rows(file)
    about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    sentence = (
        f"{about.get('gpu')}, torch {about.get('torch')}, forward and backward in bf16 ([figures]({file.name})):"
        if file.parent == RESULTS
        else f"{about.get('gpu')}, torch {about.get('torch')}, forward and backward in bf16:"
    )
    return "\n\n".join([sentence, *(make(rows) for make in makers)])


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV that `write_report` wrote, numbers as numbers, without what is empty."""
    with open(file, newline="", encoding="utf-8") as stream:
        found = [*csv.DictReader(stream)]
    return [{key: _value(text) for key, text in row.items() if text} | {"outcome": row["outcome"]} for row in found]


def _value(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
