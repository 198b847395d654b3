"""A picture of embeddings in a plane, by t-SNE, coloured by label.

Shapes: N sequences, F features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.embeddings.features import Features
from hyena_dist.tracking import figures

MOST_POINTS = 3000
"""How many sequences are drawn, the same share of each class; more take minutes and hide each other."""
_COMPONENTS = 50
_PERPLEXITY = 30
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B", "#9467BD", "#BCBD22",
)  # fmt: skip
_MARKERS = "os^"


def draw(
    features: Features,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    names: Sequence[str],
    out_png: Path,
    seed: int = 0,
) -> None:
    """Draw sequences near each other whose features are similar; a CSV of the same stem has names and places.

    Features are standardised, and their first principal components placed by t-SNE. Labels only colour.

    Args:
        features: [N, F], N of 4 or more.
        labels: indices of classes, [N].
        classes: their names.
        names: names of the sequences.
        out_png: the picture.
        seed: draws which sequences are shown, and where t-SNE begins.
    """
    shown = _some(len(labels), seed)
    places = _tsne(features[shown], seed)
    rows = zip((names[i] for i in shown), (classes[labels[i]] for i in shown), *places.T.tolist(), strict=True)
    figures.write_csv(out_png, ("name", "label", "x", "y"), rows)
    figure, (axes,) = figures.new_figure(6)
    counts = np.bincount(labels[shown], minlength=len(classes))
    for number in np.argsort(-counts, kind="stable"):  # rare classes on top
        inside = places[labels[shown] == number]
        axes.scatter(
            *inside.T,
            s=9 if len(shown) > 600 else 18,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            linewidths=0,
            alpha=0.75,
            label=f"{classes[number]} ({counts[number]:,})",
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("t-SNE 1")
    axes.set_ylabel("t-SNE 2")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, markerscale=1.8)
    figures.save(figure, out_png)


def _some(count: int, seed: int) -> NDArray[np.int64]:
    """Return the ascending indices of the sequences that are drawn."""
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_POINTS, replace=False))


def _tsne(features: Features, seed: int) -> NDArray[np.float32]:
    """Return the place of each row, [N, 2]."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    reduced = PCA(min(_COMPONENTS, *scaled.shape), random_state=seed).fit_transform(scaled)
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    found: NDArray[np.float32] = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return found
