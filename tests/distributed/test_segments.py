"""Stages with layouts of their own, and runs that are asked to stop: later processes go on as if nothing had been."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import latest
from hyena_dist.train.state import read_state
from tests.distributed.conftest import Calm
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_ranks

CURRICULUM: list[dict[str, Any]] = [
    {"seq_length": 32, "train_iters": 3, "micro_batch_size": 4},
    {"seq_length": 64, "train_iters": 3, "micro_batch_size": 2, "parallel": {"activation_checkpointing": True}},
    {"seq_length": 128, "train_iters": 3, "parallel": {"context_parallel_size": 2}},
    {"seq_length": 128, "train_iters": 2, "parallel": {"context_parallel_size": 2, "zero": "zero3"}},
]
TRAIN = {"curriculum": CURRICULUM, "global_batch_size": 8, "log_interval": 1, "save_interval": 0}


def ending(config: RunConfig, last_stage: int | None = None) -> outcome.Outcome:
    return train_here(config, last_stage=last_stage)


def test_a_layout_for_each_stage(make_config: Callable[..., RunConfig], calm: Calm) -> None:
    config = make_config(name="segments", train=TRAIN | {"eval_interval": 2}, evaluation={"lengths": [32, 128]})
    assert [len(segment) for segment in config.segments(2)] == [2, 1, 1]
    for stages_done, ended in ((2, "stage"), (3, "stage"), (4, "finished")):
        answers = run_ranks(2, ending, config)
        assert answers[0] == answers[1] == outcome.read(config.run_dir)
        assert (answers[0].outcome, answers[0].stage, answers[0].stages) == (ended, stages_done, 4)
        found = latest(config.run_dir / "checkpoints")
        assert found is not None
        assert (read_state(found).step, read_state(found).stage) == (answers[0].step, stages_done)
    assert "stage 3 is done" in (message := run_ranks(2, ending, config)[0].message) or "finished" in message

    alone = [{k: v for k, v in stage.items() if k in ("seq_length", "train_iters")} for stage in CURRICULUM]
    reference = curve(calm(1, train=TRAIN | {"curriculum": alone}))
    rows = [row for row in curve(config.run_dir) if "train/loss" in row]
    for a, b in zip([r for r in reference if "train/loss" in r], rows, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    # Interim evaluations keep to the lengths that a segment is made for.
    evaluated = {int(r["step"]): {k for k in r if "ppl_" in k} for r in curve(config.run_dir) if "train/loss" not in r}
    assert evaluated[2] == evaluated[6] == {"valid/valid/ppl_32"}
    assert evaluated[8] == evaluated[10] == {"valid/valid/ppl_128"}
    assert evaluated[11] == {"valid/valid/ppl_32", "valid/valid/ppl_128"}


def test_up_to_a_stage(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(train=TRAIN)
    assert run_ranks(2, ending, config, 1)[0][:3] == ("stage", 3, 1)
    assert run_ranks(2, ending, config, 1)[0][:3] == ("stage", 3, 1)  # done already
    assert run_ranks(2, ending, config, 4)[0][:3] == ("stage", 6, 2)  # what comes next needs other processes


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("told", [(1,), (0, 1)])
def test_asked_to_stop(
    number: signal.Signals, told: tuple[int, ...], make_config: Callable[..., RunConfig], calm: Calm
) -> None:
    """One rank that was told is enough; all save after the same step, and the next processes go on."""
    steps = 40
    train_for = {"curriculum": [{"seq_length": 64, "train_iters": steps}], "global_batch_size": 4, "log_interval": 1}
    same = {"train": train_for | {"save_interval": 0}}
    config = make_config(**same)
    ranks = Ranks(2, ending, config)
    wait_for_rows(config.run_dir / "metrics.jsonl", 3)
    for rank in told:
        os.kill(ranks.processes[rank].pid or 0, number)
    first = ranks.results()
    assert first[0] == first[1]
    assert first[0].outcome == "stopped"
    assert 3 <= first[0].step < steps
    assert read_state(latest(config.run_dir / "checkpoints") or Path()).step == first[0].step
    assert run_ranks(2, ending, config)[0].outcome == "finished"
    assert curve(config.run_dir) == curve(calm(2, **same))


def wait_for_rows(metrics: Path, rows: int) -> None:
    deadline = time.monotonic() + 60
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < rows:
        assert time.monotonic() < deadline, "the run got nowhere"
        time.sleep(0.002)
