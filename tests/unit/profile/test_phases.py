"""Phases account for every second, and say where training is."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.profile import phases as module
from hyena_dist.profile.phases import PHASES, STEP_PHASES, Lap, Phase, Phases

CPU = torch.device("cpu")
MOVES = st.lists(st.tuples(st.sampled_from(PHASES), st.floats(0, 1e4)), max_size=40)


class Clock:
    """A clock that stands until it is moved on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(MOVES, min_size=1, max_size=4), st.sampled_from([3, module._MANY_MARKS]))
def test_phases_add_up_to_the_time_between_laps(laps: list[list[tuple[Phase, float]]], many: int) -> None:
    """Each phase gets what passed in it, however often times are added up in between."""
    clock = Clock()
    phases = Phases(CPU, clock=clock)
    current: Phase = "start"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MANY_MARKS", many)
        for moves in laps:
            begin = clock.now
            expected = dict.fromkeys(PHASES, 0.0)
            for phase, seconds in moves:
                phases.enter(phase)
                current = phase
                clock.now += seconds
                expected[current] += seconds
            lap = phases.lap()
            assert lap.by_phase == pytest.approx(expected, abs=1e-6)
            assert lap.seconds == pytest.approx(clock.now - begin, abs=1e-6)
            assert sum(lap.by_phase.values()) == pytest.approx(lap.seconds)


def test_real_time_adds_up_too() -> None:
    begin = time.perf_counter()
    phases = Phases(CPU)
    for phase in ("data", "forward", "backward"):
        phases.enter(phase, 1)
        time.sleep(0.02)
    lap = phases.lap()
    assert lap.seconds == pytest.approx(time.perf_counter() - begin, abs=1e-3)
    assert all(lap.by_phase[phase] >= 0.02 for phase in ("data", "forward", "backward"))


def test_rates_leave_out_what_is_no_step() -> None:
    clock = Clock()
    phases = Phases(CPU, clock=clock)
    clock.now += 100  # a model is loaded
    for step in (1, 2):
        for phase in STEP_PHASES:
            phases.enter(phase, step)
            clock.now += 1 if phase == "data" else 2
        phases.add(660)
    for phase, seconds in (("evaluation", 30), ("checkpoint", 10)):
        phases.enter(phase)
        clock.now += seconds
    lap = phases.lap()
    assert (lap.steps, lap.tokens, lap.seconds) == (2, 1320, 162)
    assert (lap.step_s, lap.tokens_per_second, lap.data_share) == pytest.approx((11, 60, 1 / 11))
    assert lap.metrics() == {
        "time/step_s": 11,
        "time/data_s": 1,
        "time/forward_s": 2,
        "time/backward_s": 2,
        "time/reduce_s": 2,
        "time/optimizer_s": 2,
        "time/other_s": 2,
        "time/checkpoint_s": 5,
        "time/evaluation_s": 15,
    }
    assert sum(phases.lap().by_phase.values()) == 0


def test_a_lap_without_steps_has_rates() -> None:
    lap = Lap(0, 0, 0.0, dict.fromkeys(PHASES, 0.0))
    assert (lap.step_s, lap.tokens_per_second, lap.data_share) == (0, 0, 0)


def test_where() -> None:
    """Every entry is progress; the step stays where none is given."""
    phases = Phases(CPU, step=4)
    assert phases.where()[:2] == (4, "start")
    phases.enter("forward", 5, "micro-batch 2 of 4")
    before = phases.where()
    assert before[:2] == (5, "forward, micro-batch 2 of 4")
    phases.enter("reduce")
    assert phases.where()[:2] == (5, "reduce")
    since = phases.where().since
    time.sleep(0.001)
    phases.enter("reduce")
    assert since < phases.where().since <= time.monotonic()


def test_who_listens_hears_changes_alone() -> None:
    phases = Phases(CPU)
    heard: list[str] = []
    phases.on_switch = heard.append
    for phase in ("data", "forward", "forward", "backward", "backward", "data"):
        phases.enter(phase)
    assert heard == ["data", "forward", "backward", "data"]


def test_another_thread_reads_whole_places() -> None:
    """The step, the phase and the time of a place belong together, whenever another thread asks."""
    phases = Phases(CPU)
    phases.enter("data", 0, "0")
    over = threading.Event()
    seen: list[module.Where] = []

    def watch() -> None:
        while not over.is_set():
            seen.append(phases.where())

    thread = threading.Thread(target=watch)
    thread.start()
    for step in range(20_000):
        phases.enter("data", step, str(step))
    over.set()
    thread.join()
    assert seen
    assert all(where.place == f"data, {where.step}" for where in seen)
    assert sorted(where.since for where in seen) == [where.since for where in seen]
