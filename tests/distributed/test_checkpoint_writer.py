"""A checkpoint is what the engine held when it was asked to save, in every layout, while training goes on."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import published_config
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.engine.gather import exchange
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.profile.traffic import TrafficCounter
from hyena_dist.train.checkpoint.format import check, list_checkpoints, newest_intact
from hyena_dist.train.checkpoint.load import load_optimizer, load_tensors
from hyena_dist.train.checkpoint.write import CheckpointWriter
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from hyena_dist.train.state import AnomalyMemory, TrainState, read_state
from tests.distributed.engine_state import whole_moments, whole_weights
from tests.distributed.parity import Layout, chunk
from tests.processes import run_ranks

PRESETS = ["zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"]
LAYOUTS = [
    Layout(),
    Layout(data=2),
    Layout(tensor=2),
    Layout(context=2),
    Layout(tensor=2, sequence_parallel=True),
    Layout(tensor=2, data=2),
]
# Order 3 cuts tensors in blocks; numbers of parameters that 2 does not divide.
MODEL = {"d_model": 16, "order": 3, "l_max": 128, "filter_order": 15, "embed_dropout": 0.0}
MODEL |= {"n_layer": 2, "layer_pattern": "HA", "num_attention_heads": 4}


def engine_of(config: RunConfig, preset: str, mesh: Mesh, found: Path | None = None) -> Engine:
    torch.manual_seed(0)
    model, settings = HyenaDNA(config.model, mesh), read_preset(preset)
    if found:
        load_tensors(found / "model.safetensors", model, mesh)
    optimizer = adamw(parameter_groups(model, config.optimizer), settings, lr=1e-2)
    engine = Engine(model, optimizer, mesh, settings, micro_batch_size=4 // mesh.data.size(), clip_grad=1.0)
    if found:
        load_optimizer(found, engine)
    return engine


def step(engine: Engine, number: int) -> None:
    tokens = torch.randint(7, 12, (4, 33), generator=torch.Generator().manual_seed(number))
    inputs, targets = chunk(tokens[:, :-1], engine.mesh), chunk(tokens[:, 1:], engine.mesh)
    engine.accumulate(lambda m: nll_sum(m, inputs, targets, [0] * len(inputs)), scale=1 / 128, last=True)
    engine.step(1e-2)


def saver_of(config: RunConfig, engine: Engine, said: list[str] | None = None) -> CheckpointWriter:
    say = said.append if said is not None else lambda _: None
    texts = {"config.json": json.dumps(published_config(engine.model))}  # type: ignore[arg-type]
    return CheckpointWriter(config.run_dir / "checkpoints", engine, texts, config, engine.mesh, say)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def round_trips(config: RunConfig, layout: Layout) -> None:
    """Save asynchronously under every preset, train on, save again waiting; load and compare with DeepSpeed's words."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    for preset in PRESETS:
        run, said = config.model_copy(update={"name": preset}), []
        folder = run.run_dir / "checkpoints"
        engine = engine_of(run, preset, mesh)
        saver = saver_of(run, engine, said)
        saver.save(TrainState(step=0))  # moments that no update has made yet
        saver.finish()
        saver.save(TrainState(step=0, tokens=1), wait=True)  # in the place of one of the same name
        if mesh.world.is_main:
            fresh = tensors(folder / "step-00000000")
            assert fresh.keys() == {name for name in fresh if "exp_avg" not in name or not fresh[name].any()}
        for number in range(1, 4):
            step(engine, number)
        state = TrainState(step=3, tokens=7, anomaly=AnomalyMemory(losses=(1.5, 2.5), norms=(0.5, 0.25)))
        with TrafficCounter(mesh):  # as a stopped run with --profile comm
            saver.save(state, wait=True)
        expected = whole_weights(engine) | whole_moments(engine)
        saver.save(replace(state, step=4))
        for number in range(4, 6):
            step(engine, number)
        later = whole_weights(engine) | whole_moments(engine)
        saver.finish()
        saver.save(replace(state, step=4), wait=True)  # is there
        assert not saver.failed

        whole, early = folder / "step-00000003", folder / "step-00000004"
        if mesh.world.is_main:
            assert said[-1] == f"step 4: saved {early}"
            assert len(said) == 4
            assert list_checkpoints(folder) == [whole, early], "two are kept"
            check(whole)
            check(early)
            saved = tensors(whole)
            assert saved.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(saved[name], value), f"{name} under {preset}"
                assert "deltas" in name or not torch.equal(later[name], value), f"{name} must go on changing"
            mine, other = files(whole), files(early)
            for name in mine:
                if name not in ("state.json", "files.json"):
                    assert mine[name] == other[name], f"{name} under {preset}"
            assert read_state(whole) == state
            assert read_state(early) == replace(state, step=4)
        exchange(None, mesh)

        again = engine_of(config, preset, mesh, whole)
        restored = whole_weights(again) | whole_moments(again)
        assert all(torch.equal(restored[name], value) for name, value in expected.items())
        for number in range(4, 6):
            step(again, number)
        continued = whole_weights(again) | whole_moments(again)
        assert all(torch.equal(continued[name], value) for name, value in later.items()), preset


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_round_trip(layout: Layout, make_config: Callable[..., RunConfig]) -> None:
    run_ranks(layout.ranks, round_trips, make_config(model=MODEL), layout)


def failed_save(saver: CheckpointWriter, wait: bool) -> str:
    """Return what is said of a save that fails."""
    try:
        saver.save(TrainState(step=2), wait=wait)
        assert not wait
        while saver.writing:
            time.sleep(0.001)
        assert saver.failed
        saver.finish()
    except UserError as error:
        return str(error)
    raise AssertionError("the save did not fail")


def disk_full(config: RunConfig, layout: Layout, full: int, room: int) -> None:
    """Rank `full` cannot write more than `room` bytes to a file; all ranks hear of it, and the next save works."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    engine = engine_of(config, "zero1", mesh)
    saver = saver_of(config, engine)
    saver.save(TrainState(step=1))
    saver.finish()
    folder = config.run_dir / "checkpoints"
    before = files(folder / "step-00000001")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if int(os.environ["RANK"]) == full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    for wait in (False, True):
        message = failed_save(saver, wait)
        assert message.startswith(f"cannot save the checkpoint of step 2 in {folder}: File too large; the last whole ")
        assert message.endswith("step-00000001; free some space and start again with --resume auto")
        assert not saver.failed, "it was said"
        assert exchange(message, mesh) == [message] * mesh.world.size
        assert [p.name for p in folder.iterdir()] == ["step-00000001"]
        exchange(None, mesh)
    assert files(folder / "step-00000001") == before
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    saver.save(TrainState(step=2))
    saver.finish()
    check(folder / "step-00000002")


@pytest.mark.parametrize(
    ("layout", "full", "room"),
    [  # model.safetensors has 38 kB and each file of moments 76 kB by number of ranks; state.json a few bytes
        (Layout(), 0, 10),
        (Layout(data=2), 0, 20_000),
        (Layout(data=2), 1, 20_000),
        (Layout(tensor=2, data=2), 2, 20_000),
    ],
    ids=str,
)
def test_disk_full(layout: Layout, full: int, room: int, make_config: Callable[..., RunConfig]) -> None:
    run_ranks(layout.ranks, disk_full, make_config(model=MODEL), layout, full, room)


class Victim:
    """Kills this process at the n-th thing that it does to a file or folder below a folder."""

    def __init__(self, folder: Path, last: int) -> None:
        self.folder, self.left = str(folder), last
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        inside = event in {"open", "os.rename", "os.mkdir"} and self.folder in str(arguments[0])
        if inside or event in {"os.remove", "os.rmdir"}:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def killed_at_every_point(config: RunConfig) -> int:
    """Kill a save at each point in turn and go on from what is left; return the number of points."""
    mesh = initialize(config.parallel_of(config.train.curriculum[0]), timeout_s=60)
    engine = engine_of(config, "zero1", mesh)
    saver = saver_of(config, engine)
    folder, kept = config.run_dir / "checkpoints", config.run_dir / "kept"
    for number in (1, 2):
        step(engine, number)
        saver.save(TrainState(step=number), wait=True)
    shutil.copytree(folder, kept)
    step(engine, 3)
    expected = whole_weights(engine)
    point = survived = 0
    while not survived:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        child = os.fork()
        if child == 0:
            Victim(folder, point)
            saver.save(TrainState(step=3))
            saver.finish()
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        whole = [int(path.name[5:]) for path in list_checkpoints(folder)]
        assert whole in ([1, 2], [1, 2, 3], [2, 3]), f"point {point}"
        for path in list_checkpoints(folder):
            check(path)
        found = newest_intact(folder, lambda _: None)
        assert found is not None
        if found.name == "step-00000003":
            assert all(torch.equal(tensors(found)[name], value) for name, value in expected.items())
        saver.save(TrainState(step=4, tokens=point), wait=True)  # the run goes on
        assert {path.name for path in folder.iterdir()} == {"step-00000004", found.name}
        point += 1
    return point


def test_killed_at_every_point(make_config: Callable[..., RunConfig]) -> None:
    (points,) = run_ranks(1, killed_at_every_point, make_config(model=MODEL))
    assert points > 25
