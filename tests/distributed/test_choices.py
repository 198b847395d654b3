"""Choices between kernels in a run: all ranks take rank 0's, and checkpoints keep them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.models.mixers.base import MixerModule
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.ops import tuning
from hyena_dist.parallel.mesh import Mesh, build_mesh
from hyena_dist.parallel.world import join_world
from hyena_dist.train import choices
from hyena_dist.train.checkpoint.format import list_checkpoints
from hyena_dist.train.run import train
from hyena_dist.train.state import TrainState, read_state
from tests.processes import run_ranks

STAGE = StagePlan(0, 100, 8, 4, 1, 2, 0, 10, 0, ParallelConfig())


class Chooser(MixerModule):
    """A mixer of which each rank finds another implementation fast: even ones the first, odd ones the second."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def rehearse(self, length: int, batch: int, dtype: torch.dtype) -> None:
        self.choose(length, batch, dtype)

    def choose(self, length: int, batch: int, dtype: torch.dtype) -> str:
        fast = int(os.environ.get("FAST", os.environ["RANK"])) % 2
        candidates = {
            name: lambda slow=index == fast: time.sleep(0 if slow else 0.005)  # type: ignore[misc]
            for index, name in enumerate(("first", "second"))
        }
        return tuning.choose("mixing", torch.device("cpu"), dtype, length, batch, candidates)


def choose_on_all(cache: Path, settled: bool) -> dict[str, Any]:
    os.environ[tuning.VARIABLE] = str(cache / os.environ["RANK"])  # machines of their own
    mesh = build_mesh(join_world(), ParallelConfig())
    mixer = Chooser()
    model = nn.Sequential(mixer, Chooser())
    line = None
    if settled:
        with patch.object(choices, "backend_of", lambda device: "triton"):
            line = choices.settle(model, STAGE, mesh, torch.float32)
    return {
        "line": line,
        "taken": mixer.choose(100, 4, torch.float32),
        "chosen": list(tuning.chosen().values()),
        "files": [path.parent.name for path in cache.glob("*/choices.json")],
    }


def test_all_ranks_take_the_choice_of_rank_0(tmp_path: Path) -> None:
    alone = run_ranks(2, choose_on_all, tmp_path / "alone", False)
    assert [found["taken"] for found in alone] == ["first", "second"]  # as their timings say
    together = run_ranks(2, choose_on_all, tmp_path / "together", True)
    assert [found["taken"] for found in together] == ["first", "first"]
    assert [found["chosen"] for found in together] == [["first"], ["first"]]
    assert together[1]["files"] == ["0"]
    assert together[0]["line"] == together[1]["line"]
    assert together[0]["line"].endswith("; mixing of 4 x 100 in float32: first")


def test_nothing_is_done_on_a_cpu(tmp_path: Path) -> None:
    class Never(Chooser):
        def rehearse(self, length: int, batch: int, dtype: torch.dtype) -> None:
            pytest.fail("rehearsed")

    assert choices.settle(Never(), STAGE, Mesh(), torch.float32) is None
    assert tuning.chosen() == {}


def rehearse_at_first(self: MixerModule, length: int, batch: int, dtype: torch.dtype) -> None:
    Chooser().choose(length, batch, dtype)


def train_as_if_on_a_gpu(config: RunConfig, cache: Path, fast: str, last_stage: int | None) -> "dict[str, str]":
    """Train on a machine that finds the first ("0") or the second ("1") candidate fast; return what it has chosen."""
    os.environ[tuning.VARIABLE] = str(cache / fast)
    join_world()
    os.environ["FAST"] = fast
    with (
        patch.object(choices, "backend_of", lambda device: "triton"),
        patch.object(HyenaMixer, "rehearse", rehearse_at_first),
    ):
        train(config, join_world(), last_stage=last_stage)
    (*_, checkpoint) = list_checkpoints(config.run_dir / "checkpoints")
    return dict(read_state(checkpoint).choices)


def test_a_continued_run_keeps_its_choices(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    stages = [{"seq_length": length, "train_iters": 2} for length in (32, 32, 48)]
    config = make_config(train={"curriculum": stages, "global_batch_size": 2, "micro_batch_size": 2})
    (before,) = run_ranks(1, train_as_if_on_a_gpu, config, tmp_path, "0", 1)
    assert list(before.values()) == ["first"]
    (after,) = run_ranks(1, train_as_if_on_a_gpu, config, tmp_path, "1", None)
    assert after.items() >= before.items()
    assert list(after.values()) == ["first", "second"]  # the length 48 was new


def test_choices_of_another_machine_are_said_to_be_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    there = {"mixing of 4 x 100 in float32 on A GPU, torch 1.0, triton 2.0": "first"}
    here = {f"mixing of 4 x 100 in float32 on {tuning.machine(cpu)}": "first"}
    assert choices.made_elsewhere(there, Path("step-1"), cpu) is None  # a CPU has no choice
    monkeypatch.setattr(choices, "backend_of", lambda device: "triton")
    said = choices.made_elsewhere(there, Path("step-1"), cpu)
    assert said is not None
    assert said.startswith("the choices between kernels in step-1 are those of A GPU, torch 1.0, triton 2.0;")
    assert choices.made_elsewhere(here, Path("step-1"), cpu) is None
    assert choices.made_elsewhere({}, Path("step-1"), cpu) is None


def test_the_state_of_a_run_without_choices_says_nothing_of_them() -> None:
    assert "choices" not in TrainState().to_json()
    assert TrainState.from_json(TrainState(choices={"a": "b"}).to_json()).choices == {"a": "b"}
