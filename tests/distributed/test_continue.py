"""A run that begins with a trained model: its first loss, the optimizer that it keeps, and what a kill costs it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import hyena_dist
from data_prep.build import BuildOptions, build_store
from data_prep.splits import ContigSplits
from hyena_dist.config.file import dump_config, load_config
from hyena_dist.config.run import RunConfig
from hyena_dist.data.batches import StepReader, inputs_and_targets
from hyena_dist.data.store import GenomeStore
from hyena_dist.train.checkpoint.format import latest
from hyena_dist.train.init import load_run
from hyena_dist.train.state import read_state
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_ranks

GOLDEN = Path(__file__).parents[1] / "golden/tiny"
LR = {"lr": 3e-3, "min_lr": 3e-3}
"""A constant learning rate, the same at any step of any run."""

Make = Callable[..., RunConfig]


def begins_with(model: Path, run: RunConfig, optimizer: str = "fresh") -> RunConfig:
    """The run as the verb makes it from a run file without a section `model`."""
    file = run.output_dir / f"{run.name}.yaml"
    file.write_text(dump_config(run))
    return load_run(file, [f"init={{model: {model}, optimizer: {optimizer}}}", "model=null"])


def train_section(iters: int, **more: Any) -> dict[str, Any]:
    curriculum = [{"seq_length": 64, "train_iters": iters}]
    return {"curriculum": curriculum, "global_batch_size": 4, "log_interval": 1, "save_interval": 0} | more


def newest(config: RunConfig) -> Path:
    found = latest(config.run_dir / "checkpoints")
    assert found
    return found


def losses(config: RunConfig) -> list[float]:
    return [row["train/loss"] for row in curve(config.run_dir) if "train/loss" in row]


def test_a_published_model(make_config: Make) -> None:
    """The first loss is the one that the published weights have, without dropout; the shift is the published one."""
    run = make_config(name="published", train=train_section(3), optimizer={"lr": 1e-3, "lr_warmup_tokens": 10**6})
    config = begins_with(GOLDEN, run)
    config = config.model_copy(update={"model": config.model.model_copy(update={"embed_dropout": 0.0})})
    assert config.model.modulation_shift == 0.05
    run_ranks(2, train_here, config)
    first = losses(config)[0]
    assert first == pytest.approx(first_loss(config, GOLDEN), rel=1e-5)
    saved = load_config(newest(config) / "run.yaml")
    assert saved.init == config.init
    assert saved.model == config.model


def first_loss(config: RunConfig, model: Path) -> float:
    """The mean loss of a model on the samples of a run's first step, by the public function."""
    loaded = hyena_dist.load(model)
    store = GenomeStore.open(config.data.path)
    batch = StepReader(store, config.stages(1), config.data, seed=config.seed, rank=0, context=(0, 1))(0)
    nll = [loaded(*inputs_and_targets(tokens)).nll for tokens in batch.tokens]
    return sum(each.sum().item() for each in nll) / batch.total_weight


def test_the_optimizer_is_kept(make_config: Make, tmp_path: Path) -> None:
    """On a genome of one window, which is every sample, and at one learning rate, two runs are one, bit for bit."""
    sections: Mapping[str, Any] = {
        "model": {"d_model": 16, "n_layer": 2, "l_max": 64, "filter_order": 16, "embed_dropout": 0.0},
        "optimizer": LR,
        "evaluation": {"max_tokens": 512, "lengths": [64]},
    }
    data = {"path": str(one_window(tmp_path / "store")), "sampling": "published"}
    whole = make_config(name="whole", train=train_section(6, global_batch_size=2), data=data, **sections)
    run_ranks(1, train_here, whole)
    half = make_config(name="half", train=train_section(3, global_batch_size=2), data=data, **sections)
    run_ranks(1, train_here, half)

    rest = {"train": half.train, "name": "rest"}
    kept = begins_with(half.run_dir, half.model_copy(update=rest), "keep")
    run_ranks(1, train_here, kept)
    assert losses(half) + losses(kept) == losses(whole)
    for file in ("model.safetensors", "optimizer-00001-of-00001.safetensors"):
        a, b = load_file(newest(whole) / file), load_file(newest(kept) / file)
        assert all((a[name] == b[name]).all() for name in a), file
    assert read_state(newest(kept)).updates == 6
    assert read_state(newest(kept)).step == 3

    fresh = begins_with(half.run_dir, half.model_copy(update={**rest, "name": "fresh"}))
    run_ranks(1, train_here, fresh)
    assert losses(fresh)[:1] == losses(kept)[:1]
    assert losses(fresh)[1:] != losses(kept)[1:]


def one_window(folder: Path) -> Path:
    """A store whose training split has one window of 64 + 1 bases."""
    generator = np.random.default_rng(0)
    fasta = folder.with_suffix(".fa")
    contigs = [(name, "".join(generator.choice(list("ACGT"), size))) for name, size in (("one", 65), ("other", 600))]
    fasta.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs))
    build_store([fasta], folder, BuildOptions(ContigSplits(valid=("other",))), say=lambda _: None)
    return folder


def test_a_kill(make_config: Make) -> None:
    """Killed, it goes on from its own checkpoints, bit for bit, even if the model that it began with is gone."""
    source = make_config(name="source", train=train_section(2))
    run_ranks(1, train_here, source)

    def config(name: str) -> RunConfig:
        return begins_with(source.run_dir, make_config(name=name, train=train_section(8, save_interval=2)), "keep")

    calm, killed = config("calm"), config("killed")
    run_ranks(2, train_here, calm)
    kill_at(Ranks(2, train_here, killed), killed.run_dir / "metrics.jsonl", 5)
    source.run_dir.rename(source.output_dir / "gone")
    run_ranks(2, train_here, config("killed"))
    assert curve(killed.run_dir) == curve(calm.run_dir)
    assert (newest(killed) / "model.safetensors").read_bytes() == (newest(calm) / "model.safetensors").read_bytes()
