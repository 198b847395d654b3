"""The picture of `data stats --plot`: GC, N, soft mask and splits along each contig of a store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.tracks import WINDOWS, Track, round_up
from hyena_dist.data.store import GenomeStore
from hyena_dist.tracking import figures

_NAME = 24
"""Largest number of a name's letters that are shown."""

# The colours are those of Okabe and Ito, which the colour-blind tell apart.
_GC, _N, _MASK = "#0072B2", "#BBBBBB", "#CC79A7"
_SPLITS = {"train": "#56B4E9", "valid": "#D55E00", "test": "#009E73"}
_GROUND = "#F4F4F4"


@dataclass(frozen=True)
class Bands:
    """The bands of a row, each with its bottom and its top as shares of the row's height.

    Attributes:
        gc: band that shows GC and N.
        mask: band that shows the soft mask; None if there is none to show.
        splits: band that shows the splits.
    """

    gc: tuple[float, float]
    mask: tuple[float, float] | None
    splits: tuple[float, float]

    @classmethod
    def of(cls, inches: float, masked: bool) -> "Bands":
        """Return the bands of a row: thin bars for mask and splits, and the rest for GC.

        Args:
            inches: height of the row.
            masked: whether there is a soft mask to show.
        """
        bar = 0.04 + 0.035 / inches
        splits = (0.5 * bar, 1.5 * bar)
        mask = (2 * bar, 3.5 * bar) if masked else None
        return cls((4 * bar if mask else 2 * bar, 0.96), mask, splits)


def draw(store: GenomeStore, tracks: Sequence[Track], out: Path) -> None:
    """Draw the tracks, one below the other on one axis of positions.

    Args:
        store: genome store, for its name and its splits.
        tracks: what `read_tracks` counted.
        out: file to write, in the format that its ending names.

    Raises:
        OSError: The file cannot be written.
    """
    widest = max(track.length for track in tracks if len(track.contigs) == 1)
    row_height = float(np.clip(8 / len(tracks), 0.42, 2.2))
    figure, (axes,) = figures.new_figure(1)
    figure.set_size_inches(11, row_height * len(tracks) + 1.6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set(xlim=(0, widest), ylim=(0, len(tracks)))

    total = np.sum([track.counts.sum(axis=0) for track in tracks], axis=0)
    mean = _gc(total)
    limits = _gc_limits(tracks, mean)
    bands = Bands.of(row_height, masked=bool(total[5]))
    for row, track in enumerate(reversed(tracks)):
        scale = min(1.0, widest / track.length)
        _draw_windows(axes, row, track, scale, bands, limits, mean)
        _draw_splits(axes, row, track, scale, bands, store)
    _label_rows(axes, tracks, widest)
    _label_positions(axes, widest)
    contigs = f"{len(store.contigs):,} contig{'s' if len(store.contigs) > 1 else ''}"
    axes.set_title(f"{store.path.resolve().name}: {contigs}, {_length(int(store.contigs.offset[-1]))}", loc="left")
    figure.legend(
        handles=_legend(store, limits, mean, bands), loc="outside upper left", ncols=7, frameon=False, fontsize=8,
        handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    figures.save(figure, out)


def _draw_windows(
    axes: Any, row: int, track: Track, scale: float, bands: Bands, limits: tuple[float, float], mean: float
) -> None:
    """Draw N as grey columns, GC as a line in front of them, and the lower-case share as columns below.

    Args:
        axes: matplotlib axes of the picture.
        row: number of the row, counted from the bottom.
        track: what to draw.
        scale: how much the track is shrunk to fit the picture, at most 1.
        bands: the bands of the row.
        limits: GC at the bottom and at the top of its band.
        mean: GC of the whole genome, for a line across.
    """
    edges = track.edges * scale
    bottom, top = row + bands.gc[0], row + bands.gc[1]
    low, high = limits

    def height(gc: Any) -> Any:
        """Return the height at which a share of GC is drawn."""
        return bottom + (np.clip(gc, low, high) - low) / (high - low) * (top - bottom)

    # The ground shows where the scale of GC begins and ends.
    axes.broken_barh([(0, edges[-1])], (bottom, top - bottom), facecolor=_GROUND)
    axes.stairs(bottom + track.share(4) * (top - bottom), edges, baseline=bottom, fill=True, color=_N, linewidth=0)
    axes.hlines(height(mean), 0, edges[-1], color=figures.GREY, linewidth=0.5, linestyle=(0, (4, 3)))
    axes.stairs(height(track.gc), edges, baseline=None, color=_GC, linewidth=0.8)
    if bands.mask:
        bottom, top = row + bands.mask[0], row + bands.mask[1]
        axes.broken_barh([(0, edges[-1])], (bottom, top - bottom), facecolor=_GROUND)
        axes.stairs(bottom + track.share(5) * (top - bottom), edges, baseline=bottom, fill=True, color=_MASK)


def _draw_splits(axes: Any, row: int, track: Track, scale: float, bands: Bands, store: GenomeStore) -> None:
    """Draw where the splits are or, for several contigs end to end, how large a share of them each split is."""
    bottom, top = row + bands.splits[0], row + bands.splits[1]
    axes.broken_barh([(0, track.length * scale)], (bottom, top - bottom), facecolor=_GROUND)
    at = 0.0
    for split, regions in store.splits.items():
        chosen = np.zeros(len(store.contigs), bool)
        chosen[track.contigs] = True
        inside = regions.on(chosen)
        first = inside.ranges.start - store.contigs.offset[inside.contig]
        first = first + track.starts[np.searchsorted(track.contigs, inside.contig)]
        spans = list(zip((first * scale).tolist(), (inside.ranges.size * scale).tolist(), strict=True))
        if len(track.contigs) > 1:
            # The regions of many short contigs would be narrower than a pixel; their share of the row tells more.
            share = sum(width for _, width in spans)
            spans = [(at, share)]
            at += share
        # The thin edge keeps a region visible that is narrower than a pixel.
        axes.broken_barh(spans, (bottom, top - bottom), color=_SPLITS[split], linewidth=0.3)


def _label_rows(axes: Any, tracks: Sequence[Track], widest: int) -> None:
    """Write each row's name left of it, and its numbers right of it."""
    names = []
    for track in reversed(tracks):
        name = track.name
        if len(name) > _NAME:  # the end of a name often tells contigs apart
            name = f"{name[: _NAME // 2 - 1]}…{name[-_NAME // 2 :]}"
        if len(track.contigs) > 1:
            name += "\nend to end" + (", shrunk" if track.length > widest else "")
        names.append(name)
    axes.set_yticks(np.arange(len(tracks)) + 0.5, names, fontsize=8)
    axes.tick_params(axis="y", length=0)

    columns: list[tuple[str, Callable[[Track, NDArray[np.int64]], str]]] = [
        ("length", lambda track, total: _length(track.length)),
        ("GC", lambda track, total: _percent(_gc(total))),
        ("N", lambda track, total: _percent(total[4] / track.length)),
        ("lower-case", lambda track, total: _percent(total[5] / track.length)),
    ]
    if not any(track.counts[:, 5].any() for track in tracks):
        columns.pop()
    right_of = axes.get_yaxis_transform()
    for (title, text), points in zip(columns, (62, 104, 142, 196), strict=False):
        style = {"xycoords": right_of, "textcoords": "offset points", "ha": "right", "fontsize": 8}
        axes.annotate(title, (1, len(tracks)), (points, 4), color=figures.GREY, va="bottom", **style)
        for row, track in enumerate(reversed(tracks)):
            axes.annotate(text(track, track.counts.sum(axis=0)), (1, row + 0.5), (points, 0), va="center", **style)


def _label_positions(axes: Any, widest: int) -> None:
    """Label the axis of positions, in bases."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(unit="b", sep=" "))
    axes.spines["bottom"].set_visible(True)
    axes.set_xlabel(f"position (windows of {round_up(widest / WINDOWS):,} b)")


def _legend(store: GenomeStore, limits: tuple[float, float], mean: float, bands: Bands) -> list[Any]:
    """Return the entries of the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    low, high = limits
    handles: list[Any] = [
        Line2D([], [], color=_GC, label=f"GC, {low:.0%} at the bottom, {high:.0%} at the top"),
        Line2D([], [], color=figures.GREY, linestyle="--", linewidth=0.8, label=f"GC of all, {_percent(mean)}"),
        Patch(color=_N, label="N"),
    ]
    if bands.mask:
        handles.append(Patch(color=_MASK, label="lower-case, 0 to 100%"))
    genome = int(store.contigs.offset[-1])
    for split, regions in store.splits.items():
        if regions:
            share = int(regions.ranges.size.sum()) / genome
            handles.append(Patch(color=_SPLITS[split], label=f"{split} {_percent(share)}"))
    return handles


def _gc(counts: NDArray[np.int64]) -> float:
    """Return the share of G and C of a track's or the genome's counts, int64 [6]; nan where all is N."""
    return float(counts[1:3].sum() / counts[:4].sum()) if counts[:4].any() else float("nan")


def _gc_limits(tracks: Sequence[Track], mean: float) -> tuple[float, float]:
    """Return the ends of the scale of GC, in steps of 5 %, between which all but the rarest windows lie."""
    gc = np.concatenate([track.gc for track in tracks])
    gc = gc[np.isfinite(gc)]
    if not gc.size:
        return 0.0, 1.0
    low, high = np.quantile(gc, [0.005, 0.995])
    low = min(low, mean - 0.05)
    high = max(high, mean + 0.05)
    return max(0.0, float(np.floor(low * 20) / 20)), min(1.0, float(np.ceil(high * 20) / 20))


def _percent(share: float) -> str:
    """Return a share as text, "-" for nan."""
    return f"{share:.1%}" if np.isfinite(share) else "-"


def _length(bases: int) -> str:
    """Return a number of bases as text with a unit."""
    for unit, name in ((10**9, "Gb"), (10**6, "Mb"), (10**3, "kb")):
        if bases >= unit:
            return f"{bases / unit:.3g} {name}"
    return f"{bases} b"
