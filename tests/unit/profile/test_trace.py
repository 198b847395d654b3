"""Traces of chosen steps hold the phases and the operators in them, as Perfetto reads them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.errors import UserError
from hyena_dist.profile.phases import Phases
from hyena_dist.profile.trace import Trace, choose_steps

CPU = torch.device("cpu")


def stages(*steps: int) -> list[StagePlan]:
    """Stages of so many steps each."""
    ends = [sum(steps[: i + 1]) for i in range(len(steps))]
    return [
        StagePlan(i, 2, 1, 1, 1, 1, end - n, end, 0, ParallelConfig())
        for i, (n, end) in enumerate(zip(steps, ends, strict=True))
    ]


def events(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        found: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return found


def train(trace: Trace, phases: Phases, steps: range) -> None:
    weight = torch.rand(32, 32, requires_grad=True)
    for step in steps:
        trace.before(step)
        phases.enter("data", step)
        x = torch.rand(32, 32)
        phases.enter("forward", step)
        loss = (x @ weight).sum()
        phases.enter("backward", step)
        loss.backward()
        phases.enter("optimizer", step)
        with torch.no_grad():
            weight -= weight.grad


def inside(event: dict[str, Any], span: dict[str, Any]) -> bool:
    return span["ts"] <= event["ts"] and event["ts"] + event["dur"] <= span["ts"] + span["dur"]


def test_spans_hold_the_operators_of_their_phase(tmp_path: Path) -> None:
    said: list[str] = []
    phases = Phases(CPU)
    with Trace(tmp_path / "trace", phases, [range(2, 4), range(6, 8)], rank=1, device=CPU, note=said.append) as trace:
        train(trace, phases, range(1, 7))  # training ends within the second stretch
    files = [tmp_path / f"trace/step-{step:06}-rank-1.json.gz" for step in (2, 6)]
    assert sorted((tmp_path / "trace").iterdir()) == files
    for file, steps in zip(files, (2, 1), strict=True):
        found = [e for e in events(file) if e.get("ph") == "X"]
        spans = {
            phase: [e for e in found if e["cat"] == "user_annotation" and e["name"] == phase]
            for phase in ("data", "forward", "backward", "optimizer")
        }
        assert {phase: len(each) for phase, each in spans.items()} == dict.fromkeys(spans, steps)
        products = [e for e in found if e["name"] == "aten::mm"]
        assert len(products) == 2 * steps
        for phase in ("forward", "backward"):
            assert all(sum(inside(mm, span) for mm in products) == 1 for span in spans[phase])
    text = "\n".join(said)
    assert f"trace of steps 2 to 3: {files[0]}; open it at https://ui.perfetto.dev" in text
    assert f"trace of steps 6 to 6: {files[1]}" in text
    assert "self ms/step" in text
    assert "aten::mm" in text


def test_steps_that_never_come_leave_no_file(tmp_path: Path) -> None:
    phases = Phases(CPU)
    with Trace(tmp_path, phases, [range(9, 10)], rank=0, device=CPU, note=print) as trace:
        train(trace, phases, range(1, 3))
    assert list(tmp_path.iterdir()) == []
    assert phases.on_switch is None


def test_a_trace_that_cannot_be_written_does_not_end_training(tmp_path: Path) -> None:
    said: list[str] = []
    phases = Phases(CPU)
    with Trace(tmp_path / "trace", phases, [range(1, 2)], rank=0, device=CPU, note=said.append) as trace:
        (tmp_path / "trace").rmdir()
        train(trace, phases, range(1, 4))
    assert any("the trace of steps 1 to 1 cannot be written to" in line for line in said)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write traces to .*; train without --profile"):
        Trace(tmp_path / "file/trace", Phases(CPU), [], rank=0, device=CPU, note=print)


def test_the_first_steps_of_a_stage_are_left_out() -> None:
    assert choose_steps((3, 5), stages(10, 4, 20), 0) == [range(3, 6), range(13, 15), range(17, 20)]
    assert choose_steps((3, 5), stages(10, 4, 20)[1:], 12) == [range(17, 20)]  # resumed two steps before a stage's end


@given(st.integers(1, 9), st.integers(0, 9), st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 30))
def test_chosen_steps_are_steps_still_to_come(first: int, more: int, sizes: list[int], done: int) -> None:
    plan = stages(*sizes)
    done = min(done, plan[-1].end_step)
    chosen = choose_steps((first, first + more), [s for s in plan if s.end_step > done], done)
    steps = [step for stretch in chosen for step in stretch]
    assert steps == sorted(set(steps))
    assert all(done < step <= plan[-1].end_step for step in steps)
