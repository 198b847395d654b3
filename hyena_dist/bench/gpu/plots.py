"""One picture of the measurement: milliseconds over length, of models above and of convolutions below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena_dist.tracking.figures import new_figure, save


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a line for each variant of the model, and one for each candidate at each batch x channels."""
    figure, axes = new_figure(10, (1, 1), sharex=False)
    good = [row for row in rows if not row["outcome"]]
    models = [(row["what"], row["length"], row["ms"]) for row in good if row["step"] == "headline"]
    convolutions = [
        (f"{row['what']}, {row['rows']:,}", row["length"], row["forward_ms"] + row["backward_ms"])
        for row in good
        if row["step"] == "convolution"
    ]
    for axis, points in zip(axes, (models, convolutions), strict=True):
        for name in dict.fromkeys(name for name, _, _ in points):
            line = sorted((length, ms) for other, length, ms in points if other == name)
            axis.plot(*zip(*line, strict=True), "o-", markersize=4, label=name)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_ylabel("forward + backward, ms")
        axis.set_xlabel("sequence length")
        axis.grid(alpha=0.3)
        if points:
            axis.legend(frameon=False, fontsize=7, ncols=2)
    axes[0].set_title("a 2 x 128 model, batch 1, bf16", fontsize=9)
    axes[1].set_title("the convolution alone, by batch x channels", fontsize=9)
    save(figure, path)
