"""A step that is not applied leaves no trace: weights, moments and later steps are those of a run that never saw it."""

import math

import pytest
import torch

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from tests.distributed.engine_state import whole_state
from tests.distributed.parity import Layout, chunk
from tests.distributed.test_zero import BATCH, MICRO_BATCHES, MODEL, OPTIMIZER, PRESETS, micro_batches, valid_targets
from tests.processes import run_ranks

LAYOUTS = [Layout(data=2), Layout(tensor=2, context=2, sequence_parallel=True)]
GOOD = [(0, 1.0, math.inf), (1, 1.0, math.inf), (2, 1.0, math.inf)]
"""Steps, each a tuple (batch, factor of the loss on the last rank, limit of the norm)."""
WITH_BAD = [GOOD[0], (7, math.nan, math.inf), GOOD[1], (8, 1.0, 1e-6), (9, math.inf, 0.0), GOOD[2]]


def steps(mesh: Mesh, name: str, asked: list[tuple[int, float, float]]) -> tuple[list[tuple[float, bool]], list[bytes]]:
    torch.manual_seed(0)
    model, preset = HyenaDNA(MODEL, mesh), read_preset(name)
    optimizer = adamw(parameter_groups(model, OPTIMIZER), preset, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas)
    ranks = mesh.data.size()
    engine = Engine(model, optimizer, mesh, preset, micro_batch_size=BATCH // ranks, clip_grad=OPTIMIZER.clip_grad)
    found = []
    for batch, factor, limit in asked:
        last_rank = mesh.data_context.rank() == mesh.data_context.size() - 1
        with model.share_filters(MICRO_BATCHES if engine.late_gradients else 1):
            for index, (inputs, targets) in enumerate(micro_batches(batch)):
                scale = (factor if last_rank else 1.0) / valid_targets(batch)
                last = index == MICRO_BATCHES - 1
                seeds = [0] * (BATCH // ranks)
                mine = chunk(inputs, mesh), chunk(targets, mesh)
                engine.accumulate(lambda m, mine=mine, seeds=seeds: nll_sum(m, *mine, seeds), scale=scale, last=last)
        found.append(engine.step(OPTIMIZER.lr, limit))
    return found, [t.cpu().numpy().tobytes() for _, t in sorted(whole_state(engine).items())]


def both(layout: Layout, names: list[str]) -> None:
    mesh = initialize(layout.parallel(), timeout_s=60)
    for name in names:
        expected, left = steps(mesh, name, GOOD)
        found, left_after_bad = steps(mesh, name, WITH_BAD)
        assert [applied for _, applied in found] == [True, False, True, False, False, True], name
        assert not math.isfinite(found[1][0]), name
        assert 1e-6 < found[3][0] < math.inf, name  # the norm itself is told, not the limit
        assert [found[i] for i in (0, 2, 5)] == expected, name
        assert left == left_after_bad, name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_no_trace(layout: Layout) -> None:
    run_ranks(layout.ranks, both, layout, PRESETS)
