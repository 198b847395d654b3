"""Layouts whose ranks run GPU kernels compute what one process computes in float64 with torch's operators."""

import os

import numpy as np
import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.parallel.mesh import Mesh
from tests.distributed.parity import Layout, Result, forward_and_backward, run_cases
from tests.interpreter import INTERPRETED, in_interpreter
from tests.processes import run_ranks

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

MODEL = ModelConfig(d_model=24, n_layer=2, l_max=100, filter_order=16, embed_dropout=0.1, resid_dropout=0.2, order=3)
LAYOUTS = [
    Layout(),
    Layout(tensor=2),
    Layout(tensor=2, sequence_parallel=True),
    Layout(context=2),
    Layout(tensor=2, context=2, sequence_parallel=True),
]

test_in_the_interpreter = in_interpreter(__file__)


def with_kernels(layout: Layout, case: tuple) -> list[Result]:
    from hyena_dist.ops.triton.launch import observed

    os.environ["HYENA_DIST_BACKEND"] = "triton"
    launched: set[str] = set()
    with observed(lambda launch: launched.add(launch.name)):
        results = run_cases(layout, [case])
    assert {"short_convolve", "short_backward", "filter", "dropout"} <= launched, launched
    return results


class TestLayouts:
    __test__ = INTERPRETED  # ranks over gloo, whose tensors are on the CPU

    @pytest.mark.parametrize("layout", LAYOUTS, ids=str)
    def test_equals_one_process(self, layout: Layout) -> None:
        """Loss, logits and every parameter's gradient in float32, within 1e-5 and 1e-4 of the largest value."""
        case = (MODEL, 2, 36, [11, 22], False)
        found: Result = run_ranks(layout.ranks, with_kernels, layout, (*case, torch.float32))[0][0]
        model, *rest = case
        exact = forward_and_backward(model, Mesh(), *rest)
        assert abs(found.loss / exact.loss - 1) < 1e-6
        pairs = {"logits": (found.logits, exact.logits), "hidden": (found.hidden_states, exact.hidden_states)}
        pairs |= {name: (found.gradients[name], gradient) for name, gradient in exact.gradients.items()}
        for name, (actual, wanted) in pairs.items():
            error = np.abs(actual.astype(np.float64) - wanted).max() / np.abs(wanted).max()
            assert error < (1e-4 if name in exact.gradients else 1e-5), f"{name} differs by {error:.1e}"
