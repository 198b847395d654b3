"""A run that is killed at a random step and resumed is, bit for bit, the run that was not."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_prep.shards import ShardOptions, write_shards
from hyena_dist.config.run import RunConfig
from hyena_dist.train.checkpoint.format import list_checkpoints
from tests.distributed.conftest import Calm
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_ranks


def kill_at(ranks: Ranks, metrics: Path, rows: int) -> None:
    deadline = time.monotonic() + 90
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < rows:
        assert time.monotonic() < deadline, "the run got nowhere"
        assert any(p.is_alive() for p in ranks.processes)
        time.sleep(0.002)
    ranks.kill()


@pytest.mark.parametrize(
    ("zero", "precision"),
    [("zero0", "fp32"), ("zero1", "fp32"), ("zero2", "fp32"), ("zero3", "fp32"), ("zero1", "bf16")],
)
def test_killed_and_resumed(zero: str, precision: str, make_config: Callable[..., RunConfig], calm: Calm) -> None:
    same = {"parallel": {"zero": zero}, "precision": precision}
    undisturbed = calm(2, **same)
    whole = curve(undisturbed)
    assert [row["step"] for row in whole] == [*range(1, 13), 12]

    # Once in each stage of the curriculum, at a random step; the second resumes over the boundary at step 6.
    config = make_config(name="killed", **same)
    folder = config.run_dir
    for low, high in ((1, 5), (7, 9)):
        rows = random.randint(low, high)
        kill_at(Ranks(2, train_here, config), folder / "metrics.jsonl", rows)
        steps = [int(p.name.removeprefix("step-")) for p in list_checkpoints(folder / "checkpoints")]
        assert max(steps, default=0) < 12, f"killed too late, at row {rows}: {steps}"
    run_ranks(2, train_here, config)

    assert curve(folder) == whole
    saved = [f / "checkpoints/step-00000012/model.safetensors" for f in (undisturbed, folder)]
    assert saved[0].read_bytes() == saved[1].read_bytes()


def test_rows_are_means_over_their_steps_also_across_a_resume(
    make_config: Callable[..., RunConfig], calm: Calm
) -> None:
    every_step = {row["step"]: row["train/loss"] for row in curve(calm(2)) if "train/loss" in row}
    train = make_config().train.model_dump() | {"log_interval": 5, "save_interval": 2, "keep_last": 9}
    config = make_config(name="means", train=train)
    run_ranks(2, train_here, config)
    whole = curve(config.run_dir)
    rows = {row["step"]: row["train/loss"] for row in whole if "train/loss" in row}
    for step, steps in ((5, range(1, 6)), (6, [6]), (10, range(7, 11)), (12, [11, 12])):
        assert rows.pop(step) == pytest.approx(np.mean([every_step[n] for n in steps]), rel=1e-6)
    assert not rows
    for checkpoint in list_checkpoints(config.run_dir / "checkpoints"):
        if checkpoint.name > "step-00000008":
            shutil.rmtree(checkpoint)
    run_ranks(2, train_here, config)
    assert curve(config.run_dir) == whole


@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_one_rank_equals_two(zero: str, calm: Calm) -> None:
    """A global batch gives the same losses on 1 and 2 ranks within 1e-5, dropout included."""
    one, two = (curve(calm(ranks, parallel={"zero": zero})) for ranks in (1, 2))
    assert len(one) == len(two) == 13
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)


def test_the_grid_in_bf16(make_config: Callable[..., RunConfig], calm: Calm) -> None:
    """Layouts sum in another order, so bf16 losses are close and not equal."""
    grid = {"tensor_model_parallel_size": 2, "context_parallel_size": 2, "sequence_parallel": True}
    model = make_config().model.model_copy(update={"layer_pattern": "HA", "num_attention_heads": 4})
    one, four = (
        curve(calm(ranks, precision="bf16", parallel=parallel, model=model.model_dump()))
        for ranks, parallel in ((1, {}), (4, grid))
    )
    assert [row.get("train/loss") for row in four] != [row.get("train/loss") for row in one]
    for a, b in zip(one, four, strict=True):
        assert a == pytest.approx(b, rel=2e-2, abs=1e-7)


def test_variants_agree(make_config: Callable[..., RunConfig], calm: Calm, small_store: Path, tmp_path: Path) -> None:
    """Presets, recomputed activations, data workers and shards change how, not what is computed."""
    store = make_config().data
    write_shards(small_store, tmp_path / "tars", ShardOptions(window=301), say=lambda _: None)
    shards = store.model_copy(update={"path": str(tmp_path / "tars"), "workers": 1})
    variants: dict[str, dict[str, Any]] = {
        zero: {"parallel": {"zero": zero}}
        for zero in ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
    }
    variants["recompute"] = {"parallel": {"zero": "zero3", "activation_checkpointing": True}}
    variants["shards"] = {"parallel": {"zero": "zero1"}, "data": shards}
    runs = {name: calm(2, **sections) for name, sections in variants.items()}
    reference = curve(runs["zero0"])
    for name, run in runs.items():
        for a, b in zip(reference, curve(run), strict=True):
            assert a == pytest.approx(b, rel=1e-5, abs=1e-7), name
        saved = load_file(run / "checkpoints/step-00000012/model.safetensors")
        for key, value in load_file(runs["zero0"] / "checkpoints/step-00000012/model.safetensors").items():
            torch.testing.assert_close(saved[key], value, rtol=1e-5, atol=1e-6, msg=f"{name}: {key}")
    assert curve(runs["shards"]) == curve(runs["zero1"])
