"""A rank that hangs is named, by real ranks of which one is stopped, asleep or killed."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from hyena_dist.errors import TEMPORARY
from hyena_dist.parallel.world import join_world
from hyena_dist.profile.phases import Phases
from hyena_dist.profile.watchdog import Report, Watchdog, describe_collective_failure, explain
from tests.processes import Ranks

RANKS = 3


def watched(what: str, stuck: int, folder: Path) -> None:
    """Eleven steps, of which the fourth of one rank does not end as it should; what is printed goes to `RANK.log`."""
    rank = int(os.environ["RANK"])
    log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    world = join_world(timeout_s=60)

    def leave(text: str) -> None:
        print("LEFT", text, flush=True)
        raise OSError("no space left on device")

    phases = Phases(world.device)
    with Watchdog(world, phases, 2.0, lambda text: print("SAID", text), leave):
        for step in range(1, 12):
            phases.enter("data", step)
            if step == 4 and rank == stuck:
                if what == "asleep":
                    time.sleep(60)
                if what in ("stopped", "killed"):
                    os.kill(os.getpid(), signal.SIGSTOP if what == "stopped" else signal.SIGKILL)
            phases.enter("optimizer", step)
            try:
                world.barrier()
            except RuntimeError as error:
                print("FAILURE", describe_collective_failure(error), flush=True)
                os._exit(TEMPORARY)
            if what == "slow":
                time.sleep(0.5)
    print("DONE", flush=True)


def run(what: str, stuck: int, folder: Path) -> list[tuple[int | None, str]]:
    """Exit code and output of each rank; the stuck one's is None if it had to be ended."""
    ranks = Ranks(RANKS, watched, what, stuck, folder)
    deadline = time.monotonic() + 60
    codes: list[int | None] = []
    for rank, process in enumerate(ranks.processes):
        if rank != stuck or what != "stopped":
            process.join(max(1, deadline - time.monotonic()))
            assert process.exitcode is not None, f"rank {rank} has not ended"
        codes.append(process.exitcode)
    ranks.kill()
    return [(code, (folder / f"{rank}.log").read_text()) for rank, code in enumerate(codes)]


@pytest.mark.parametrize(
    ("what", "stuck", "named"),
    [
        ("asleep", 1, r"step 4: rank 1 \(\S+, process \d+\) at step 4, data, .* is stuck, and rank 0, 2 waits for it"),
        ("stopped", 2, r"step 4: rank 2 \(\S+, process \d+\) at step \d, \w+, .* is stopped or gone; look at"),
        ("stopped", 0, r"step 4: rank 0, or the launcher on its machine, does not answer; look at"),
    ],
)
def test_the_stuck_rank_is_named(what: str, stuck: int, named: str, tmp_path: Path) -> None:
    answers = run(what, stuck, tmp_path)
    said = "".join(output for _, output in answers)
    assert re.search(f"SAID no progress for 2 s at {named}", said), said
    assert said.count("SAID") == said.count("LEFT") == (1 if stuck else RANKS - 1), said
    assert {code for code, _ in answers} <= {TEMPORARY, None}


def test_a_killed_rank(tmp_path: Path) -> None:
    answers = run("killed", 1, tmp_path)
    assert [code for code, _ in answers] == [TEMPORARY, -signal.SIGKILL, TEMPORARY]
    for rank in (0, 2):
        assert re.search(r"FAILURE another rank is gone or does not answer \(\w[^/]*\); its own log", answers[rank][1])


def test_slow_is_not_stuck(tmp_path: Path) -> None:
    assert [(code, "DONE" in output) for code, output in run("slow", 1, tmp_path)] == [(0, True)] * RANKS


def report(rank: int, step: int, waits: bool) -> Report:
    return Report(rank, f"node{rank}", 100 + rank, step, "data", 9.0, "hyena_dist/x.py:1", waits, 7)


@pytest.mark.parametrize("waits", [True, False])
def test_all_look_alike(waits: bool) -> None:
    """The ranks with the fewest steps are named where all wait, or none is seen to."""
    reports = [report(0, 5, waits), report(1, 4, waits), report(2, 5, waits)]
    sentence = explain(reports[0], reports, {0, 1, 2}, 600)
    assert sentence.startswith("no progress for 600 s at step 5: rank 1 (node1, process 101) at step 4")
    assert "and rank 0, 2 waits for it" in sentence


def test_other_errors_are_no_collective_failures() -> None:
    assert describe_collective_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
