"""Tensor, sequence and context parallelism compute what one process computes, in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dist.config.model import ModelConfig
from hyena_dist.parallel.mesh import Mesh
from tests.distributed.parity import Layout, forward_and_backward, run_cases
from tests.processes import run_ranks

MODEL = {"d_model": 24, "n_layer": 2, "l_max": 100, "filter_order": 8, "embed_dropout": 0.0}
MODELS = {
    "order 2": ModelConfig(**MODEL),
    "order 3": ModelConfig(**MODEL, order=3),
    "attention": ModelConfig(**MODEL, layer_pattern="AA", num_attention_heads=4),
    "hybrid": ModelConfig(**MODEL, layer_pattern="HA", num_attention_heads=4),
    "long short filter": ModelConfig(**MODEL, short_filter_order=5),
    "own head": ModelConfig(**MODEL, tie_embeddings=False),
}
# (batch, length): no power of two; 4 positions on 4 context ranks are fewer than the halo is wide.
SHAPES = [(1, 84), (3, 36), (2, 4)]
LAYOUTS = [
    Layout(tensor=2),
    Layout(tensor=4),
    Layout(tensor=2, sequence_parallel=True),
    Layout(tensor=4, sequence_parallel=True),
    Layout(context=2),
    Layout(context=4),
    Layout(tensor=2, context=2),
    Layout(tensor=2, context=2, sequence_parallel=True),
    Layout(data=2, context=2),
]


def largest_relative(actual: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def cases(layout: Layout) -> list[tuple[str, tuple]]:
    found = []
    # 26 channels over 4 context ranks, 13 over 2: some ranks convolve more channels than others.
    uneven = ModelConfig(**MODEL | {"d_model": 26 if layout.tensor < 4 else 28}, order=3)
    for name, model in {**MODELS, "uneven channels": uneven}.items():
        for batch, length in SHAPES:
            found.append((f"{name}, B {batch}, L {length}", (model, batch * layout.data, length, None, False)))
    dropping = ModelConfig(**MODEL | {"embed_dropout": 0.2}, resid_dropout=0.3)
    found.append(("dropout", (dropping, 2, 36, [11, 22], False)))
    found.append(("dropout, recomputed", (dropping, 2, 36, [11, 22], True)))
    return found


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_equals_one_process(layout: Layout) -> None:
    """Outputs, loss and every parameter's gradient within 1e-10 of the largest value of the reference."""
    named = cases(layout)
    results = run_ranks(layout.ranks, run_cases, layout, [case for _, case in named])[0]
    for (name, case), parallel in zip(named, results, strict=True):
        model, *rest = case
        reference = forward_and_backward(model, Mesh(), *rest)
        assert abs(parallel.loss / reference.loss - 1) < 1e-10, name
        assert largest_relative(parallel.logits, reference.logits) < 1e-10, name
        assert largest_relative(parallel.hidden_states, reference.hidden_states) < 1e-10, name
        assert parallel.gradients.keys() == reference.gradients.keys()
        for parameter, gradient in reference.gradients.items():
            assert np.abs(gradient).max() > 0, f"{name}: {parameter} has no gradient"
            difference = largest_relative(parallel.gradients[parameter], gradient)
            assert difference < 1e-10, f"{name}: {parameter} differs by {difference:.1e}"
