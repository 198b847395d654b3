"""The guard's decisions: what it accepts, what a spike is, and that it decides the same after a restart."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.schedule import CurriculumStage, TrainConfig
from hyena_dist.errors import UserError
from hyena_dist.train.anomaly import FEWEST, MOST_IN_A_ROW, AnomalyGuard, Rollback, leave_out
from hyena_dist.train.state import AnomalyMemory, TrainState

numbers = st.one_of(st.floats(0.1, 3), st.sampled_from([math.nan, math.inf, 1e3, 1e6]))


def guard(state: TrainState | None = None, **settings: Any) -> AnomalyGuard:
    stage = CurriculumStage(seq_length=8, train_iters=1000)
    train = TrainConfig(curriculum=(stage,), global_batch_size=1, **settings)
    return AnomalyGuard(train, state or TrainState())


def step(guard: AnomalyGuard, number: int, loss: float, norm: float) -> str | None:
    """Ask the guard as the loop does, with an engine that holds the limit."""
    seen = loss if guard.needs_loss else None
    limit = guard.norm_limit(seen)
    return guard.judge(number, seen, norm, math.isfinite(norm) and norm <= limit, 1e-3)


def test_without_sigma_only_what_is_not_finite_counts() -> None:
    watched = guard(on_nan="skip")
    assert not watched.needs_loss
    for number, norm in enumerate([1.0] * 50 + [1e9, 1.0], start=1):
        assert watched.norm_limit(None) == math.inf
        assert step(watched, number, 1.0, norm) is None
    assert "the gradient norm is inf at step 53" in (step(watched, 53, 1.0, math.inf) or "")
    assert watched.memory == AnomalyMemory(skipped=(53,))


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_policies(norm: float) -> None:
    with pytest.raises(UserError, match=r"gradient norm is (nan|inf) at step 3 \(learning rate 1\.00e-03\); lower opt"):
        step(guard(), 3, 1.0, norm)
    with pytest.raises(Rollback) as caught:
        step(guard(TrainState(step=4), on_nan="rollback"), 7, 1.0, norm)
    assert (caught.value.first, caught.value.last) == (5, 7)
    watched = guard(TrainState(step=4), on_nan="rollback")
    watched.saved(6)
    with pytest.raises(Rollback, match="back to step 6, without steps 7 to 9"):
        step(watched, 9, 1.0, norm)


def test_a_spike_is_told_from_enough_steps() -> None:
    watched = guard(on_nan="skip", spike_sigma=6)
    for number in range(1, FEWEST):
        assert step(watched, number, 1.0 + 0.01 * (number % 2), 2.0) is None
    assert watched.norm_limit(1e9) == math.inf  # one too few to tell
    assert step(watched, FEWEST, 1.0, 2.0 + 0.1) is None
    assert watched.norm_limit(5.0) == 0  # the loss alone forbids it
    assert watched.norm_limit(math.nan) == 0
    assert "the loss spikes to 5 (mean 1.00" in (step(watched, 40, 5.0, 2.0) or "")
    assert "the gradient norm spikes to 9" in (step(watched, 41, 1.0, 9.0) or "")
    assert step(watched, 42, 1.01, 2.1) is None
    assert watched.skipped == [40, 41]


def test_a_step_with_nothing_scored_is_neither_a_spike_nor_remembered() -> None:
    watched = guard(on_nan="stop", spike_sigma=6)
    for number in range(1, 2 * FEWEST):
        assert watched.judge(number, None, 0.0, watched.norm_limit(None) >= 0.0, 1e-3) is None
    assert watched.memory == AnomalyMemory()
    for number in range(FEWEST):
        assert step(watched, 100 + number, 1.4 + 0.01 * (number % 2), 2.0 + 0.1 * (number % 2)) is None
        assert watched.judge(200 + number, None, 0.0, watched.norm_limit(None) >= 0.0, 1e-3) is None
    assert watched.memory.losses == (1.4, 1.41) * (FEWEST // 2)
    assert "spikes to 5" in (step(guard(TrainState(anomaly=watched.memory), on_nan="skip", spike_sigma=6), 300, 5.0, 2)
                             or "")  # fmt: skip


def test_too_many_in_a_row() -> None:
    watched = guard(on_nan="skip")
    step(watched, 1, 1.0, math.nan)
    for number in range(3, 3 + MOST_IN_A_ROW):
        assert step(watched, number, 1.0, math.nan)
    with pytest.raises(UserError, match=r"at step 13, the 11th in a row; lower optimizer\.lr"):
        step(watched, 13, 1.0, math.nan)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=200), st.integers(0, 200))
def test_a_restart_decides_as_before(steps: list[tuple[float, float]], cut: int) -> None:
    """Stopping after any step and going on from state.json gives the same words, skips and limits."""
    whole, parts = guard(on_nan="skip", spike_sigma=3), guard(on_nan="skip", spike_sigma=3)
    for number, (loss, norm) in enumerate(steps, start=1):
        answers = []
        for each in (whole, parts):
            try:
                answers.append(step(each, number, loss, norm))
            except UserError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]
        if number == cut:
            state = TrainState.from_json(TrainState(step=number, anomaly=parts.memory).to_json())
            parts = guard(state, on_nan="skip", spike_sigma=3)
    assert whole.memory == parts.memory


def test_steps_that_are_left_out(tmp_path: Path) -> None:
    for first, last in ((5, 7), (12, 12)):
        leave_out(tmp_path, Rollback("", first, last))
    watched = guard(TrainState(step=3))
    watched.read_left_out(tmp_path)
    assert [n for n in range(1, 15) if watched.leaves_out(n)] == [5, 6, 7, 12]
    assert watched.skipped == [5, 6, 7, 12]
    with pytest.raises(UserError, match="cannot write to"):
        leave_out(tmp_path / "absent", Rollback("", 1, 2))
