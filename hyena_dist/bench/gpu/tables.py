"""The parts of READMEs that tell of GPUs, made from jobs/results/gpu-*.csv, which `bench.gpu` writes.

Each stands between two comments that readers do not see; without any such file they say that nothing is measured.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hyena_dist.bench.gpu.report import convolution_table, headline_sentence, headline_table
from hyena_dist.errors import UserError

MARKS = ("<!-- python -m hyena_dist.bench.gpu tables -->", "<!-- end -->")
RESULTS = Path("jobs/results")
UNMEASURED = "Not yet measured on a GPU."

Rows = Sequence[dict[str, Any]]


def write_tables(root: Path) -> None:
    """Put a sentence for each measured machine into README.md of a clone, and its tables into jobs/results/README.md.

    Raises:
        UserError: a README is missing, or has no place for them.
    """
    _put(root, Path("README.md"), _sentence, " ")
    _put(root, RESULTS / "README.md", _tables, "\n\n")


def _put(root: Path, path: Path, of_machine: Callable[[str, Rows], str], gap: str) -> None:
    """Replace what stands between the marks of a file by what a function says of each machine and its rows."""
    text = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
    before, found, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (found and end):
        raise UserError(f"{root / path} has no place for figures; run this in a clone of the repository")
    texts = [of_machine(_machine(file), read_rows(file)) for file in sorted((root / RESULTS).glob("gpu-*.csv"))]
    text = gap.join(["", *texts, ""]) if texts else UNMEASURED
    (root / path).write_text(before + MARKS[0] + text + MARKS[1] + after, encoding="utf-8")


def _sentence(machine: str, rows: Rows) -> str:
    return f"On {machine}: {headline_sentence(rows)}"


def _tables(machine: str, rows: Rows) -> str:
    first = f"{machine}, forward and backward of a 2 x 128 model in bf16:"
    second = "The long convolution alone, in gains over torch.fft:"
    return "\n\n".join([first, headline_table(rows), second, convolution_table(rows)])


def _machine(file: Path) -> str:
    about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return f"{about.get('gpu', 'a CPU')} (torch {about.get('torch')}, triton {about.get('triton')})"


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
