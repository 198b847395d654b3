"""Runs that must not start, each with one sentence and nothing lost."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.train import outcome, pretraining
from hyena_dist.train.lock import run_lock
from tests.distributed.conftest import Calm
from tests.distributed.training import train_here
from tests.processes import run_cli, run_ranks

TRAIN = {"curriculum": [{"seq_length": 32, "train_iters": 2}], "global_batch_size": 4, "log_interval": 1}


def refusal(config: RunConfig, resume: str = "auto") -> str:
    from hyena_dist.parallel.world import join_world
    from hyena_dist.train.run import train

    try:
        train(config, join_world(timeout_s=60), resume)  # type: ignore[arg-type]
    except UserError as error:
        return str(error)
    return "started"


@pytest.fixture
def finished(make_config: Callable[..., RunConfig], calm: Calm) -> RunConfig:
    config = make_config(train=TRAIN)
    shutil.copytree(calm(1, train=TRAIN), config.run_dir)
    return config


def test_what_does_not_continue(finished: RunConfig, make_config: Callable[..., RunConfig]) -> None:
    def other(**sections: Any) -> RunConfig:
        return make_config(**{"train": TRAIN} | sections)

    before = {p: p.read_bytes() for p in (finished.run_dir / "checkpoints").rglob("*") if p.is_file()}
    cases = [
        (1, other(model={"d_model": 32}), "auto", r"another architecture: model\.d_model was 16 and is now 32"),
        (1, other(seed=1), "auto", r"seed was 0 and is now 1"),
        (1, other(train=TRAIN | {"global_batch_size": 8}), "auto", r"train\.global_batch_size was 4 and is now 8"),
        (1, other(precision="bf16"), "auto", r"precision was 'fp32' and is now 'bf16'"),
        (1, finished, "never", r"has checkpoints; pass --resume auto"),
        (1, finished, "auto", "started"),
        (2, other(train=TRAIN | {"micro_batch_size": 2}, parallel={"zero": "zero2"}), "auto", "started"),
    ]
    for ranks, config, resume, message in cases:
        for answer in run_ranks(ranks, refusal, config, resume):
            assert re.search(message, answer), answer
    assert before == {p: p.read_bytes() for p in (finished.run_dir / "checkpoints").rglob("*") if p.is_file()}


def test_other_data(finished: RunConfig, tmp_path: Path) -> None:
    from data_prep.build import BuildOptions, build_store
    from data_prep.splits import BlockSplits

    (tmp_path / "other.fa").write_text(">chr1\n" + "ACGT" * 500 + "\n")
    build_store([tmp_path / "other.fa"], tmp_path / "other", BuildOptions(BlockSplits((0.5, 0.5))), say=lambda _: None)
    data = finished.data.model_copy(update={"path": tmp_path / "other"})
    [answer] = run_ranks(1, refusal, finished.model_copy(update={"data": data}))
    assert "was trained on other data" in answer


def refusal_of_another_version(config: RunConfig) -> str:
    pretraining.INTERVALS_VERSION += 1
    return refusal(config)


def test_other_sampling(finished: RunConfig) -> None:
    """A run by intervals is not continued by a version that draws other windows; what is uniform never changed."""
    [answer] = run_ranks(1, refusal_of_another_version, finished)
    assert "samples windows of its intervals as an older version did" in answer
    uniform = finished.data.model_copy(update={"sampling": "uniform"})
    objective = pretraining.Pretraining(finished.model_copy(update={"data": uniform}))
    assert objective.fingerprint == objective.store.fingerprint


def test_damaged_data(make_config: Callable[..., RunConfig], small_store: Path, tmp_path: Path) -> None:
    from data_prep.shards import write_shards

    shutil.copytree(small_store, tmp_path / "store")
    write_shards(small_store, tmp_path / "shards", say=lambda _: None)
    for data, file, workers in (("store", "genome.zarr/contigs/chr1/c/0", 1), ("shards", "train-000000.tar", 0)):
        damaged = tmp_path / data / file
        damaged.write_bytes(damaged.read_bytes()[:-600])
        config = make_config(train=TRAIN, data={"path": str(tmp_path / data), "workers": workers}, name=f"on-{data}")
        for answer in run_ranks(2, refusal, config):
            assert f"{damaged} has " in answer


def test_nan_stops_the_run(make_config: Callable[..., RunConfig]) -> None:
    """A diverged step is not saved over the checkpoints before it."""
    config = make_config(
        train=TRAIN | {"curriculum": [{"seq_length": 32, "train_iters": 50}], "save_interval": 1},
        optimizer={"lr": 1e30, "clip_grad": 0.0, "param_groups": "paper"},
    )
    for answer in run_ranks(2, refusal, config):
        assert "gradient norm is" in answer
        assert "lower optimizer.lr" in answer


def test_finished_run_is_scored_as_asked(finished: RunConfig) -> None:
    """Other evaluation settings on a finished run give other scores, never the old ones under a new name."""
    evaluation = finished.evaluation.model_copy(update={"lengths": (32, 64), "max_tokens": 512})
    asked = finished.model_copy(update={"evaluation": evaluation})
    before = json.loads((finished.run_dir / "summary.json").read_text())
    run_ranks(1, train_here, asked)
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    assert before["ppl_by_length"].keys() == {"128"}
    assert summary["ppl_by_length"].keys() == {"32", "64"}
    assert summary["scored"]["max_tokens"] == 512
    assert summary["markov_ppl"] != before["markov_ppl"]


def test_a_second_train(finished: RunConfig, tmp_path: Path) -> None:
    """Refused at once, and the word of those that train stays."""
    (tmp_path / "again.yaml").write_text(dump_config(finished))
    outcome.clear(finished.run_dir)
    with run_lock(finished.run_dir):
        begin = time.monotonic()
        done = run_cli("train", "again.yaml", cwd=tmp_path)
        assert time.monotonic() - begin < 30
    assert done.returncode == 2
    assert f"{finished.run_dir} is trained by process {os.getpid()} on" in done.stderr
    assert outcome.read(finished.run_dir) is None
