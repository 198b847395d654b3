"""A report of the figures: ratios of ours to others, and to what the machine could do at best.

Everything is made from the rows alone: dicts with the step, what was measured, its figures and its outcome.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

FLASH_FFT_CONV = {2**10: 7.9, 2**15: 3.2, 2**20: 1.74}
"""Length -> FlashFFTConv's published gain over torch.fft, at batch x channels 49,152. arXiv 2311.05908."""

LEAST_GB = 3 * (2 * 14.9 + 1.0)
"""The least 10^9 bytes that a 2 x 128 model in bf16 moves at 2^20 positions, forward and backward.

In each layer, norm and in_proj take 1.3, gates and convolution in three fused kernels 6.4, out_proj with residual 1.3,
the filter with its spectrum 4.3, a fused MLP 1.6; the head takes 1.0; backward moves twice as much as forward.
"""


def write_report(rows: Sequence[Row], out: Path) -> None:
    """Write gpu-NAME.csv with all rows, gpu-NAME.json with the machine, plots of both, and REPORT.md."""
    name = f"gpu-{slug(rows)}"
    columns = [*dict.fromkeys(key for row in rows for key in row if key != "traceback")]
    with open(out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (out / f"{name}.json").write_text(json.dumps(machine(rows), indent=2, default=str) + "\n")
    (out / "REPORT.md").write_text(report(rows) + f"\n{_plots(rows, out, name)}\n")


def _plots(rows: Sequence[Row], out: Path, name: str) -> str:
    """Draw what can be drawn, and return a sentence about it."""
    try:
        from hyena_dist.bench.gpu import plots

        plots.plot(rows, out / f"{name}.png")
    except Exception as error:  # a plot is the least of it
        return f"No plot was drawn: {type(error).__name__}: {error}."
    return f"![seconds by length]({name}.png)"


def slug(rows: Sequence[Row]) -> str:
    """Return the GPU's name as part of a file's, "dry-run" without one."""
    gpu = str(machine(rows).get("gpu", "dry-run"))
    return "-".join("".join(c if c.isalnum() else " " for c in gpu.lower()).split())


def machine(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what is known of the machine, and its ceilings."""
    found = next((dict(r) for r in rows if r["step"] == "ceilings" and r.get("what") == "machine"), {})
    for key in ("step", "what", "at_s", "outcome"):
        found.pop(key, None)
    for key in ("gb_per_s", "tflop_per_s"):
        for row in _good(rows, "ceilings"):
            if key in row:
                found[key] = row[key]
    return found


def report(rows: Sequence[Row]) -> str:
    """Return the report in Markdown: ratios first, then every step's rows."""
    about = ", ".join(f"{key} {_number(value)}" for key, value in machine(rows).items())
    parts = [f"# {machine(rows).get('gpu', 'A dry run, whose figures mean nothing')}", about]
    bad = [row for row in rows if row["outcome"]]
    parts += ["## Outcomes", _outcomes(bad) if bad else "Every case was measured."]
    parts += ["## Forward and backward, bf16, batch 1", headline_table(rows)]
    parts += ["## The long convolution by torch.fft's time, forward and backward", convolution_table(rows)]
    for step in dict.fromkeys(row["step"] for row in rows):
        parts += [f"## {step}", _table(_with_ratios(rows, step))]
    return "\n\n".join(parts) + "\n"


def headline_table(rows: Iterable[Row]) -> str:
    """Return the table of a model's milliseconds by length, with the ratios of others to ours."""
    return _table(headline_rows(rows))


def headline_rows(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of `headline_table`, one for each length at which ours was measured."""
    rows = [*rows]
    ms = {(row["what"], row["length"]): row["ms"] for row in _good(rows, "headline")}
    memory = {(row["what"], row["length"]): row["peak_gb"] for row in _good(rows, "headline")}
    copy = machine(rows).get("gb_per_s")
    table: list[Row] = []
    for length in sorted({length for what, length in ms if what == "ours"}):
        ours = ms["ours", length]
        least = 1e3 * LEAST_GB * length / 2**20 / copy if copy else None
        table.append(
            {
                "length": length,
                "ours, ms": ours,
                "ours, GB": memory["ours", length],
                "published / ours": _ratio(ms.get(("published", length)), ours),
                "with checkpointing": _ratio(
                    ms.get(("published, checkpointed", length)), ms.get(("ours, checkpointed", length))
                ),
                "attention / ours": _ratio(ms.get(("attention", length)), ours),
                "ours / least": _ratio(ours, least),
            }
        )
    return table


def headline_sentence(rows: Iterable[Row]) -> str:
    """Return the figures of the headline in one line."""
    table = headline_rows(rows)
    columns = ("length", "ours, ms", "published / ours", "attention / ours")
    lengths, ours, published, attention = (" / ".join(_number(r[c]) or "?" for r in table) for c in columns)
    return (
        f"A 2 x 128 model, bf16, forward and backward at {lengths} tokens: {ours} ms; the published computation takes "
        f"{published} x as long, attention {attention} x."
    )


def convolution_table(rows: Iterable[Row]) -> str:
    """Return the table of the convolution's candidates by size: their gains over torch.fft, and FlashFFTConv's."""
    from_rows = _good(rows, "convolution")
    both = {(r["rows"], r["length"], r["what"]): r["forward_ms"] + r["backward_ms"] for r in from_rows}
    names = [*dict.fromkeys(row["what"] for row in from_rows)]
    table = []
    for size, length in dict.fromkeys((row["rows"], row["length"]) for row in from_rows):
        reference = both.get((size, length, "torch.fft"))
        gains = {name: _ratio(reference, both.get((size, length, name))) for name in names if name != "torch.fft"}
        line = {"batch x channels": size, "length": length, "torch.fft, ms": reference, **gains}
        table.append(line | {"FlashFFTConv, published": FLASH_FFT_CONV.get(length)})
    return _table(table)


def _with_ratios(rows: Sequence[Row], step: str) -> list[Row]:
    """Return a step's rows, those of gates with their share of a copy's rate, those of graphs with their gain."""
    good = _good(rows, step)
    if step == "gates":
        copy = machine(rows).get("gb_per_s")
        return [{**row, "of a copy": _ratio(row["gb_per_s"], copy)} for row in good]
    if step == "graphs":
        eager = {(row["what"], row["length"]): row["ms"] for row in good if row["how"] == "eager"}
        return [{**row, "gain": _ratio(eager.get((row["what"], row["length"])), row["ms"])} for row in good]
    return good


def _good(rows: Iterable[Row], step: str) -> list[Row]:
    return [row for row in rows if row["step"] == step and not row["outcome"]]


def _ratio(other: float | None, ours: float | None) -> float | None:
    return other / ours if other and ours else None


def _outcomes(rows: Sequence[Row]) -> str:
    hidden = ("step", "what", "outcome", "at_s", "traceback")
    lines = []
    for row in rows:
        case = [f"{key} {value}" for key, value in row.items() if key not in hidden]
        lines.append(f"- {', '.join([row['step'], str(row.get('what', '')), *case])}: {row['outcome']}")
        lines += [f"\n```\n{row['traceback'].rstrip()}\n```"] if "traceback" in row else []
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with the columns that any of the rows has."""
    columns = [*dict.fromkeys(key for row in rows for key in row if key not in ("step", "outcome", "at_s"))]
    if not rows:
        return "Nothing was measured."
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_number(row.get(column)) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def _number(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
