"""Runs that must not start, each with one sentence and nothing lost."""

import json
import os
import re
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.train import outcome, pretraining
from hyena_dist.train.lock import run_lock
from hyena_dist.train.loop import Loop
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
    for data, file, workers in (("store", "genome.zarr/tokens/0/c/0", 1), ("shards", "train-000000.tar", 0)):
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


def starve(config: RunConfig, hungry: int) -> tuple[str, str]:
    """Train where a rank can have hardly any memory from its first step on; return how that is said, and written."""
    accumulate = Loop._accumulate

    def starved(self: Loop, *args: Any) -> Any:
        if self.mesh.world.rank == hungry:
            have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (have + 2**20, resource.RLIM_INFINITY))
        return accumulate(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_accumulate", starved)
        try:
            said = refusal(config)
        except TemporaryError as error:
            said = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found = outcome.read(config.run_dir)
    assert found is not None
    return said, f"{found.outcome}: {found.message}"


def test_out_of_memory(make_config: Callable[..., RunConfig]) -> None:
    """One rank says it and the run has failed, so that nobody starts it again; what the others hear is no news."""
    stages = [{"seq_length": 2048, "train_iters": 3}]
    train = TRAIN | {"curriculum": stages, "global_batch_size": 32}
    model = {"d_model": 64, "n_layer": 2, "l_max": 2048, "filter_order": 16}
    config = make_config(train=train, model=model, evaluation={"lengths": [2048], "max_tokens": 4096})
    others, starved = run_ranks(2, starve, config, 1)
    assert starved[0].startswith("rank 1 at step 1 (")
    assert " is out of memory" in starved[0]
    assert "lower train.micro_batch_size, set parallel.activation_checkpointing=true" in starved[0]
    assert starved[1] == others[1] == f"failed: {starved[0]}"


def test_what_deepspeed_alone_refuses(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"zero_optimization": {"stage": 1}, "communication_data_type": "fp7"}')
    [answer] = run_ranks(1, refusal, make_config(train=TRAIN, parallel={"zero": str(tmp_path / "mine.json")}))
    assert answer.startswith("DeepSpeed does not take what parallel.zero says (")
    assert answer.endswith("; mend the JSON file")


def test_the_largest_seed(make_config: Callable[..., RunConfig]) -> None:
    assert run_ranks(1, refusal, make_config(train=TRAIN, seed=2**64 - 1)) == ["started"]
    with pytest.raises(UserError, match="seed = 18446744073709551616 is not valid: input should be less than"):
        make_config(seed=2**64)


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
