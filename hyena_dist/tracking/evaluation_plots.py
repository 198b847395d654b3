"""The plots of an evaluation's breakdowns, each with the numbers it shows in a CSV beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hyena_dist.tracking import figures

Scores = tuple[float, float | None, float | None, int]
"""A perplexity, both ends of its 95 % interval or None, and the number of bases."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of Okabe and Ito
_MOST_NAMES = 40
"""How many names are drawn; the CSV has all."""
_COLUMNS = ("ppl", "ppl_low", "ppl_high", "bases")


def plot_ppl_by_position(by_length: Mapping[int, Mapping[tuple[int, int], Scores]], out_png: Path) -> None:
    """Draw perplexity by the number of bases before a target in its window, a line for each context length.

    Args:
        by_length: by context length, the scores by the least and the most bases before a target.
        out_png: The picture; its CSV gets the same stem.
    """
    rows = [(n, *edges, *scores) for n, found in sorted(by_length.items()) for edges, scores in found.items()]
    figures.write_csv(out_png, ("context_length", "bases_before_least", "bases_before_most", *_COLUMNS), rows)
    figure, (axes,) = figures.new_figure(4.4)
    for colour, (length, found) in zip(_COLOURS * len(by_length), sorted(by_length.items()), strict=False):
        places = [most for _, most in found]
        ppl, low, high = _columns(list(found.values()))
        axes.plot(places, ppl, "o-", color=colour, markersize=4, linewidth=1.6, label=f"context {length:,}")
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("bases before the target in its window, at most")
    axes.set_ylabel("held-out perplexity (95 % interval)")
    axes.legend(frameon=False)
    figures.save(figure, out_png)


def plot_ppl_by_name(
    by_length: Mapping[int, Mapping[str, Scores]], kind: str, overall: Mapping[int, float], out_png: Path
) -> None:
    """Draw the perplexity of each contig or species at the longest context, those with the most bases.

    Args:
        by_length: by context length, the scores by name.
        kind: what the names are: "contig" or "species".
        overall: the perplexity of all together, by context length.
        out_png: The picture; its CSV, which has every length, gets the same stem.
    """
    rows = [(n, name, *scores) for n, found in sorted(by_length.items()) for name, scores in found.items()]
    figures.write_csv(out_png, ("context_length", kind, *_COLUMNS), rows)
    longest = max(by_length)
    found = by_length[longest]
    largest = set(sorted(found, key=lambda name: -found[name][3])[:_MOST_NAMES])
    names = [name for name in found if name in largest]
    ppl, low, high = _columns([found[name] for name in names])
    figure, (axes,) = figures.new_figure(1.4 + 0.22 * len(names))
    places = np.arange(len(names))
    bars = np.maximum([ppl - low, high - ppl], 0)
    axes.errorbar(ppl, places, xerr=bars, fmt="o", color=_COLOURS[0], markersize=5, capsize=3)
    axes.axvline(overall[longest], color=figures.GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel(f"held-out perplexity at context {longest:,} (95 % interval; dashed: all together)")
    figures.save(figure, out_png)


def _columns(scores: list[Scores]) -> Any:
    """Return perplexities and the ends of their intervals, which are their own ends where there is one window."""
    ppl, low, high = np.array([found[:3] for found in scores], dtype=float).reshape(-1, 3).T
    return ppl, np.where(np.isnan(low), ppl, low), np.where(np.isnan(high), ppl, high)
