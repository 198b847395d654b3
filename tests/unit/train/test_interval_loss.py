"""A row of metrics holds the mean over its steps, whatever interruptions there were."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.interval_loss import IntervalLoss
from hyena_dist.train.state import TrainState

steps_of = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 2**20).map(float)), min_size=1, max_size=12)


def add(losses: IntervalLoss, steps: list[tuple[float, float]]) -> None:
    for loss_sum, weight in steps:
        losses.add(torch.tensor(loss_sum, dtype=torch.float64), weight)


@given(steps_of, st.integers(0, 12))
def test_the_mean_is_over_all_targets_and_an_interruption_changes_no_bit(
    steps: list[tuple[float, float]], interrupted: int
) -> None:
    whole = IntervalLoss(Mesh())
    add(whole, steps)
    before = IntervalLoss(Mesh())
    add(before, steps[:interrupted])
    saved = TrainState.from_json(TrainState(unreported=before.steps()).to_json())
    after = IntervalLoss(Mesh(), saved.unreported)
    add(after, steps[interrupted:])
    mean = whole.end()
    assert after.end() == mean
    weight = sum(weight for _, weight in steps)
    if weight:
        assert mean == pytest.approx(sum(loss_sum for loss_sum, _ in steps) / weight)
    else:
        assert mean is None


def test_the_last_step_is_known_at_once_and_a_row_begins_anew() -> None:
    losses = IntervalLoss(Mesh())
    add(losses, [(6.0, 2.0), (1.0, 2.0)])
    assert losses.last() == 0.5
    assert losses.end() == 1.75
    assert losses.end() is None
    add(losses, [(0.0, 0.0)])
    assert losses.last() is None


def test_a_step_that_is_not_finite_hides_no_others() -> None:
    losses = IntervalLoss(Mesh())
    add(losses, [(10.0, 2.0), (math.nan, 2.0), (10.0, 2.0), (0.0, 0.0)])
    assert losses.end() == 5.0
    add(losses, [(math.inf, 2.0)])
    assert losses.end() == math.inf


def test_older_checkpoints_have_no_such_steps() -> None:
    assert "unreported" not in json.loads(TrainState().to_json())
    assert TrainState.from_json(TrainState(step=3).to_json()).unreported == ()
