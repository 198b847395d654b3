"""The reports of an evaluation: tables on the terminal, JSON, and a folder of pictures with their CSV."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyena_dist.system.files import write_atomically
from hyena_dist.tracking.evaluation_plots import plot_ppl_by_name, plot_ppl_by_position
from hyena_dist.tracking.plots import plot_ppl_by_length
from hyena_dist.train.evaluation.held_out import HeldOut
from hyena_dist.train.evaluation.scores import Perplexity

ROWS = 20
"""How many contigs or species a table has; of more, those with the most bases."""


def tables(found: HeldOut) -> list[str]:
    """Return the breakdowns as lines of text: a row for each part, a column for each context length."""
    lines = []
    at = found.by_length
    for title, by_name in (
        ("species", {n: r.by_species for n, r in at.items()}),
        ("contig", {n: r.by_contig for n, r in at.items()}),
    ):
        if any(len(names) > 1 for names in by_name.values()):
            lines += _table(title, by_name)
    by_position = {n: {_between(*edges): p for edges, p in r.by_position.items()} for n, r in at.items()}
    lines += _table("bases before the target", by_position, most=None)
    if any(r.last for r in at.values()):
        lines += _table("last bases of a window", {n: {f"{k:,}": p for k, p in r.last.items()} for n, r in at.items()})
    if any(r.gain for r in at.values()):
        gains = {n: r.gain for n, r in at.items() if r.gain is not None}
        lines += _table(f"times the perplexity at context {min(at):,}, last bases", gains)
    lines += ["", *(f"Markov chain of order {order}: perplexity {ppl:.4f}" for order, ppl in found.markov.items())]
    return lines


def _table(title: str, columns: Mapping[int, Mapping[str, Perplexity]], most: int | None = ROWS) -> list[str]:
    sizes: dict[str, int] = {}
    for column in columns.values():
        for name, found in column.items():
            sizes[name] = max(sizes.get(name, 0), found.tokens)
    chosen = set(sorted(sizes, key=lambda name: -sizes[name])[:most])
    width = max(len(name) for name in (title, *chosen))
    lines = ["", f"{title:<{width}}" + "".join(f"{f'context {length:,}':>22}" for length in columns)]
    for name in (name for name in sizes if name in chosen):
        lines.append(f"{name:<{width}}" + "".join(f"{_cell(column.get(name)):>22}" for column in columns.values()))
    if len(sizes) > len(chosen):
        lines.append(f"and {len(sizes) - len(chosen):,} more with fewer bases, which --json and --out have")
    return lines


def _cell(found: Perplexity | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.ppl:.4f}"
    return f"{found.ppl:.4f} ± {(found.high - found.low) / 2:.4f}"


def _between(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def to_json(found: HeldOut) -> dict[str, Any]:
    """Return all numbers of an evaluation: ppl_by_length, markov_ppl, coverage and breakdowns, each by length."""
    at = found.by_length
    return {
        "ppl_by_length": {n: r.whole.to_json() for n, r in at.items()},
        "markov_ppl": found.markov,
        "coverage": {n: r.coverage._asdict() for n, r in at.items()},
        "parts": {n: r.to_json() for n, r in at.items()},
    }


def write_folder(found: HeldOut, folder: Path, content: Mapping[str, Any]) -> Iterable[Path]:
    """Write evaluation.json, and a picture with its CSV of each breakdown.

    Args:
        found: what was found.
        folder: where to write, made if need be; pictures of an earlier evaluation are replaced.
        content: what evaluation.json is to hold.

    Returns:
        The pictures.
    """
    at = found.by_length
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "evaluation.json", json.dumps(content, indent=2) + "\n")
    plot_ppl_by_length({n: r.whole[:3] for n, r in at.items()}, found.markov, folder / "ppl_by_length.png")
    plot_ppl_by_position({n: r.by_position for n, r in at.items()}, folder / "ppl_by_position.png")
    written = ["ppl_by_length.png", "ppl_by_position.png"]
    overall = {n: r.whole.ppl for n, r in at.items()}
    for kind, by_name in (
        ("contig", {n: r.by_contig for n, r in at.items()}),
        ("species", {n: r.by_species for n, r in at.items()}),
    ):
        if any(by_name.values()):
            plot_ppl_by_name(by_name, kind, overall, folder / f"ppl_by_{kind}.png")
            written.append(f"ppl_by_{kind}.png")
    for k in next(iter(at.values())).last:
        plot_ppl_by_length({n: r.last[k][:3] for n, r in at.items()}, {}, folder / f"ppl_of_last_{k}.png")
        written.append(f"ppl_of_last_{k}.png")
    return [folder / name for name in written]
