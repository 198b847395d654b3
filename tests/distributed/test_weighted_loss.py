"""Repeats with less weight: the loss is sum(w nll) / sum(w) over the whole step, however it is spread."""

import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.config.run import RunConfig
from hyena_dist.data.batches import StepReader, inputs_and_targets
from hyena_dist.data.store import GenomeStore
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.train.checkpoint.format import latest
from hyena_dist.train.state import read_state
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks

WEIGHT = 0.25


@pytest.fixture(scope="module")
def masked_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    letters = np.random.default_rng(0).choice(list("ACGTacgtN"), 20_000, p=[0.06] * 4 + [0.18] * 4 + [0.04])
    (folder / "x.fa").write_text(">chr1\n" + "".join(letters) + "\n")
    build_store([folder / "x.fa"], folder / "s", BuildOptions(BlockSplits((0.8, 0.2)), True), say=lambda _: None)
    return folder / "s"


def test_in_every_layout(masked_store: Path, make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    def config(name: str, micro: int = 8, **parallel: int) -> RunConfig:
        return make_config(
            name=name,
            parallel=parallel,
            data={"path": str(masked_store), "soft_mask_loss_weight": WEIGHT, "reverse_complement": True},
            train={
                "curriculum": [{"seq_length": 48, "train_iters": 3}],
                "global_batch_size": 8,
                "micro_batch_size": micro,
                "log_interval": 1,
            },
        )

    layouts = [
        (1, config("one")),
        (1, config("accumulated", micro=1)),
        (2, config("data", micro=2)),
        (2, config("context", context_parallel_size=2)),
        (2, config("tensor", micro=4, tensor_model_parallel_size=2)),
    ]
    for ranks, run in layouts:
        run_ranks(ranks, train_here, run)
    expected = curve(tmp_path / "one")
    for _, run in layouts[1:]:
        for a, b in zip(expected, curve(run.run_dir), strict=True):
            assert a == pytest.approx(b, rel=2e-5, abs=1e-7), run.name


def test_the_formula(masked_store: Path, make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """The first loss and gradient of a run against float64 in plain PyTorch, and that the weight matters."""
    losses = {}
    for weight in (0.0, WEIGHT, 1.0):
        run = make_config(
            name=f"weight-{weight}",
            model={"d_model": 16, "n_layer": 2, "l_max": 128, "filter_order": 16, "embed_dropout": 0.0},
            data={"path": str(masked_store), "soft_mask_loss_weight": weight},
            train={
                "curriculum": [{"seq_length": 48, "train_iters": 1}],
                "global_batch_size": 8,
                "micro_batch_size": 2,
                "log_interval": 1,
            },
        )
        run_ranks(1, train_here, run)
        [first, *_] = curve(run.run_dir)
        batch = StepReader(GenomeStore.open(masked_store), run.stages(1), run.data, seed=run.seed, rank=0)(0)
        torch.manual_seed(run.seed)
        model = HyenaDNA(run.model).double()
        inputs, targets = (x.flatten(0, 1) for x in inputs_and_targets(batch.tokens))
        weights = torch.ones_like(targets) if batch.weights is None else batch.weights.flatten(0, 1)
        nll = model(inputs, targets).nll
        loss = (weights.double() * nll).sum() / weights[targets >= 0].double().sum()
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        assert first["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert first["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
        losses[weight] = loss.item()
    assert len(set(losses.values())) == 3


def what_training_says(config: RunConfig) -> str:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        train_here(config)
    return said.getvalue()


def test_steps_with_nothing_scored_report_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    make_config: Callable[..., RunConfig],
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    letters = np.random.default_rng(0).choice(list("ACGT"), 20_000)
    letters[2_000:14_000] = "N"
    (folder / "x.fa").write_text(">chr1\n" + "".join(letters) + "\n")
    build_store([folder / "x.fa"], folder / "s", BuildOptions(BlockSplits((0.8, 0.2))), say=lambda _: None)
    config = make_config(
        data={"path": str(folder / "s"), "max_n_fraction": 1, "sampling": "uniform"},
        train={
            "curriculum": [{"seq_length": 16, "train_iters": 100}],
            "global_batch_size": 1,
            "log_interval": 1,
            "on_nan": "stop",
            "spike_sigma": 6,
        },
    )
    said = run_ranks(1, what_training_says, config)[0]
    assert "training windows of seq_length 16 reach 16,000 of 16,000 bases (100.0 %) on 1 of 1 contigs\n" in said
    assert "evaluation (valid) at context 128 scores 3,968 of 4,000 bases (99.2 %) on 1 of 1 contigs" in said
    read = StepReader(GenomeStore.open(folder / "s"), config.stages(1), config.data, seed=config.seed, rank=0)
    scored = [step for step in range(100) if read(step).total_weight]
    assert 5 < len(scored) < 50
    rows = [row for row in curve(config.run_dir) if "train/tokens" in row]
    assert [int(row["step"]) - 1 for row in rows if "train/loss" in row] == scored
    assert [int(row["step"]) - 1 for row in rows if "train/ppl" in row] == scored
    assert len(rows) == 100
    losses = read_state(latest(config.run_dir / "checkpoints") or Path()).anomaly.losses
    assert list(losses) == [row["train/loss"] for row in rows if "train/loss" in row]
