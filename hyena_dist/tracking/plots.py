"""The plots of what a run has learned, each with the numbers it shows in a CSV beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyena_dist.tracking import figures

# Colours of Okabe and Ito, which the colour-blind tell apart.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_MARKERS = "osD^v"


def plot_training(metrics_rows: Sequence[Mapping[str, float]], out_png: Path) -> None:
    """Draw losses and learning rate against tokens, with the boundaries of the curriculum's stages.

    Args:
        metrics_rows: Rows of metrics.jsonl, in order. Training rows hold train/loss, train/tokens, train/seq_length
            and train/lr; validation rows hold valid/<split>/loss.
        out_png: The picture; its CSV gets the same stem.
    """
    train = [row for row in metrics_rows if "train/loss" in row and "train/tokens" in row]
    steps = np.array([row["step"] for row in train], dtype=float)
    tokens = np.array([row["train/tokens"] for row in train], dtype=float)
    loss = np.array([row["train/loss"] for row in train], dtype=float)
    lr = np.array([row.get("train/lr", math.nan) for row in train], dtype=float)
    length = [int(row.get("train/seq_length", 0)) for row in train]
    smoothed = _smooth(loss)
    valid: dict[str, list[tuple[float, float]]] = {}
    for row in metrics_rows:
        for name, value in row.items():
            if name.startswith("valid/") and name.endswith("/loss"):
                # A validation row needs no tokens of its own: those of its step are known from training.
                at = row["train/tokens"] if "train/tokens" in row else _at_step(row["step"], steps, tokens)
                valid.setdefault(name.split("/")[1], []).append((at, value))

    figures.write_csv(
        out_png,
        ("series", "step", "tokens", "seq_length", "loss", "loss_smoothed", "lr"),
        [
            *(
                ("train", row["step"], row["train/tokens"], size, row["train/loss"], smooth, row.get("train/lr", ""))
                for row, size, smooth in zip(train, length, smoothed.tolist(), strict=True)
            ),
            *((f"valid/{split}", "", at, "", value, "", "") for split, points in valid.items() for at, value in points),
        ],
    )

    figure, (top, bottom) = figures.new_figure(5.6, (4, 1))
    if smoothed is loss:  # a few rows are not smoothed
        top.plot(tokens, loss, color=_BLUE, linewidth=1.8, label="train")
    else:
        top.plot(tokens, loss, color=_BLUE, alpha=0.3, linewidth=0.7, label="train")
        top.plot(tokens, smoothed, color=_BLUE, linewidth=1.8, label="train, smoothed")
    for (split, points), colour, marker in zip(
        valid.items(), [_ORANGE, _GREEN, "black"] * 9, _MARKERS * 9, strict=False
    ):
        style = {"marker": marker, "markersize": 5, "linewidth": 1, "clip_on": False}  # the last lies on the frame
        top.plot(*zip(*points, strict=True), color=colour, label=split, **style)
    bottom.plot(tokens, lr, color=figures.GREY, linewidth=1.4)
    if len(train):
        figures.mark_stages((top, bottom), tokens, length)
        _zoom_to(top, np.concatenate([smoothed, [value for points in valid.values() for _, value in points]]), loss)
        perplexity = top.secondary_yaxis("right", functions=(np.exp, _log))
        perplexity.set_ylabel("perplexity")
        top.legend(frameon=False, loc="upper right")
    top.set_ylabel("loss (nats per nucleotide)")
    bottom.set_ylabel("learning rate")
    bottom.set_ylim(bottom=0)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    bottom.set_xlabel("training tokens")
    bottom.xaxis.set_major_formatter(_engineering())
    figures.save(figure, out_png)


def plot_ppl_by_length(
    ppl_by_length: Mapping[int, tuple[float, float | None, float | None]], markov: Mapping[int, float], out_png: Path
) -> None:
    """Draw held-out perplexity by context length beside Markov chains.

    Args:
        ppl_by_length: Perplexity and both ends of its 95 % interval, or None, by context length in nucleotides.
        markov: Perplexity of the Markov chain, by order.
        out_png: The picture; its CSV gets the same stem.
    """
    lengths = sorted(ppl_by_length)
    ppl, low, high = (np.array([ppl_by_length[length][i] for length in lengths], dtype=float) for i in range(3))
    figures.write_csv(
        out_png,
        ("model", "context_length", "markov_order", "ppl", "ppl_low", "ppl_high"),
        [
            *(("hyena", length, "", *ppl_by_length[length]) for length in lengths),
            *(("markov", "", order, value, "", "") for order, value in sorted(markov.items())),
        ],
    )

    figure, (axes,) = figures.new_figure(4.4)
    for value in markov.values():
        axes.axhline(value, color=figures.GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    # An estimate may lie on the end of its interval; rounding must not make a bar negative.
    bars = np.maximum([ppl - low, high - ppl], 0)
    axes.errorbar(lengths, ppl, yerr=bars, color=_BLUE, marker="o", markersize=5, linewidth=1.8, capsize=3, zorder=2)
    if lengths:
        axes.annotate(
            f"{ppl[-1]:.3f}",
            (lengths[-1], np.fmax(ppl, high)[-1]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            color=_BLUE,
        )
    axes.set_xscale("log", base=2)
    names = [f"{length:,}" for length in lengths]
    turned = sum(map(len, names)) > 50
    axes.set_xticks(lengths, names, rotation=30 if turned else 0, ha="right" if turned else "center")
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.08)
    axes.set_xlabel("context length (nucleotides)")
    axes.set_ylabel("held-out perplexity (95 % interval)")
    figures.label_lines(
        axes, [(value, f"order {order}  {value:.3f}") for order, value in markov.items()], title="Markov chain"
    )
    figures.save(figure, out_png)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the centred running mean over a fiftieth of the values, fewer at the ends; what is not finite is left out.

    A centred mean does not lag behind the curve as one that runs forward does.
    """
    half = len(values) // 100
    if half == 0:
        return values
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[last] - counts[first]
    return np.where(count > 0, (sums[last] - sums[first]) / np.maximum(count, 1), np.nan)


def _at_step(step: float, steps: np.ndarray, tokens: np.ndarray) -> float:
    return float(np.interp(step, steps, tokens)) if len(steps) else float(step)


def _zoom_to(axes: Any, main: np.ndarray, noise: np.ndarray) -> None:
    """Set the y limits so that a few outliers of the raw loss do not flatten the curves."""
    noise = noise[np.isfinite(noise)]
    main = main[np.isfinite(main)]
    if len(noise) and len(main):
        low = min(main.min(), float(np.quantile(noise, 0.005)))
        high = max(main.max(), float(np.quantile(noise, 0.995)))
        margin = 0.05 * (high - low) or 0.05
        axes.set_ylim(low - margin, high + margin)


def _log(values: np.ndarray) -> np.ndarray:
    # matplotlib also asks for the inverse at places outside the axes, where there may be no logarithm.
    return np.log(np.maximum(values, 1e-9))


def _engineering() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(places=None, sep=" ")
