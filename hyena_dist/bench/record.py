"""The two files that keep a measurement: a table, and what its figures depend on."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena_dist.tracking import environment

_KEPT = ("python", "platform", "cpu", "cpu_cores", "memory_gib", "gpus", "packages", "git")  # nothing names a machine


def record(
    out: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]], asked: Mapping[str, object]
) -> None:
    """Write `out`/name.csv with the rows, and name.json with what was asked for and where it ran."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    where = {key: value for key, value in environment().items() if key in _KEPT}
    (out / f"{name}.json").write_text(json.dumps({**asked, **where}, indent=2, default=str) + "\n")
