"""Mean states: those of sequences longer than the model reads, and those that are there already."""

from pathlib import Path

import numpy as np
import pytest

import hyena_dist
from hyena_dist.data.tokenizer import decode
from hyena_dist.tasks.embeddings.features import mean_states
from tests.unit.tasks.embeddings.sets import examples

TINY = Path(__file__).parents[3] / "golden" / "tiny"


def test_states_are_means_over_bases_of_what_embed_gives_for_pieces(tmp_path: Path) -> None:
    model = hyena_dist.load(TINY, modulation_shift=0.05)
    l_max = model.config.l_max
    short, long = examples([2], shortest=30, longest=40), examples([1], shortest=2 * l_max + 2, longest=2 * l_max + 3)
    found = mean_states(model, short, tmp_path / "short.zarr", layers=(0, -1), strands="both")
    texts = [decode(short.read(i)) for i in range(2)]
    expected = hyena_dist.embed(model, texts, layers=(0, -1), strands="both")
    np.testing.assert_array_equal(found, np.concatenate(list(expected.layers.values()), axis=1))
    found = mean_states(model, long, tmp_path / "long.zarr")
    text = decode(long.read(0))
    thirds = [text[start : start + len(text) // 3 + 1] for start in range(0, len(text), len(text) // 3 + 1)]
    pieces = hyena_dist.embed(model, thirds)
    weights = np.array([len(piece) for piece in thirds])[:, None] / len(text)
    np.testing.assert_allclose(found[0], (pieces.layers[2] * weights).sum(0), rtol=1e-5, atol=1e-6)


def test_states_are_read_again_and_those_of_other_options_are_refused(tmp_path: Path) -> None:
    given = examples([3])
    first = mean_states(hyena_dist.load(TINY, modulation_shift=0.05), given, tmp_path / "x.zarr")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "x.zarr").rglob("*")}
    again = mean_states(hyena_dist.load(TINY, modulation_shift=0.05), given, tmp_path / "x.zarr")
    np.testing.assert_array_equal(first, again)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "x.zarr").rglob("*")}
    with pytest.raises(hyena_dist.errors.UserError, match="is not what this would make"):
        mean_states(hyena_dist.load(TINY, modulation_shift=0.05), given, tmp_path / "x.zarr", layers=(0,))
