"""The loop trains what it knows nothing of: a regression head on a toy set, under ZeRO, killed and resumed."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hyena_dist.config.optimizer import OptimizerConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.world import join_world
from hyena_dist.tracking import read_metrics
from hyena_dist.train.lr import learning_rate
from hyena_dist.train.objective import Batch, Evaluation, Objective, RunRecord
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.resume import ResumePoint
from hyena_dist.train.run import train
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve
from tests.processes import Ranks, run_ranks

FEATURES = 6


class Rows(NamedTuple):
    """One micro-batch of the toy set."""

    x: Tensor
    """Features of each row, float32 [B, FEATURES]."""
    y: Tensor
    """Target of each row, float32 [B]."""
    weight: Tensor
    """Weight of each row, float32 [B], uneven, so that a step's divisor differs from rank to rank."""


def rows(step: int, first: int, count: int) -> Rows:
    """Rows of the global batch of a step: y = |x| and a little noise."""
    made = [np.random.default_rng((step, first + i)) for i in range(count)]
    x = torch.tensor(np.array([generator.normal(size=FEATURES) for generator in made]), dtype=torch.float32)
    noise = torch.tensor([generator.normal() for generator in made], dtype=torch.float32)
    weight = torch.tensor([1.0 + (first + i) % 3 for i in range(count)])
    return Rows(x, x.norm(dim=1) + 0.01 * noise, weight)


class Head(nn.Module):
    """Two layers, of sizes that two ranks do not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, 13)
        self.out = nn.Linear(13, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.tanh(self.hidden(x)))
        return y[:, 0]


class Regression(Objective[Rows]):
    """Weighted squared error on rows that are made from (step, row)."""

    measure = "rmse"

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @property
    def fingerprint(self) -> Any:
        return {"toy": FEATURES}

    @property
    def scored(self) -> Mapping[str, Any]:
        return {"rows": 64}

    def build_model(self, mesh: Mesh) -> Head:
        return Head()

    def model_files(self, model: nn.Module) -> Mapping[str, str]:
        return {"head.json": json.dumps({"features": FEATURES})}

    def batches(self, point: ResumePoint, steps: range, mesh: Mesh) -> AbstractContextManager[Iterable[Batch[Rows]]]:
        return nullcontext(self._batch(point, step, mesh) for step in steps)

    def _batch(self, point: ResumePoint, step: int, mesh: Mesh) -> Batch[Rows]:
        stage = point.stage_after(step)
        size = stage.micro_batch_size
        firsts = [(a * mesh.data.size() + mesh.data.rank()) * size for a in range(stage.gradient_accumulation_steps)]
        parts = [rows(step, first, size) for first in firsts]
        return Batch(stage, step, parts, float(sum(part.weight.sum() for part in parts)))

    def loss(self, model: Callable[..., Any], micro_batch: Rows, device: torch.device) -> Tensor:
        error: Tensor = model(micro_batch.x.to(device)) - micro_batch.y.to(device)
        return (micro_batch.weight.to(device) * error.square()).sum()

    def measured(self, loss: float) -> float:
        return loss**0.5

    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        held_out = rows(10**6, 0, 64)
        with torch.no_grad():
            rmse = float((model(held_out.x) - held_out.y).square().mean().sqrt())
        alive()
        return Evaluation({"valid/rmse": rmse}, [f"rmse {rmse:.4f}"], {"rmse": rmse})

    def report(self, run: RunRecord) -> None:
        assert run.state.evaluation is not None
        (run.folder / "summary.json").write_text(json.dumps({**run.state.evaluation, "steps": run.state.step}))


def regress(config: RunConfig) -> None:
    train(config, join_world(timeout_s=60), objective=Regression)


def plain_pytorch(config: RunConfig) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and last parameters of the same steps in one process, without engine and loop."""
    stages = config.stages(1)
    torch.manual_seed(config.seed)
    model = Head()
    optimizer = torch.optim.AdamW(parameter_groups(model, config.optimizer), betas=config.optimizer.betas)
    losses = []
    for step in range(stages[-1].end_step):
        stage = next(s for s in stages if step < s.end_step)
        batch = rows(step, 0, stage.global_batch_size)
        loss = (batch.weight * (model(batch.x) - batch.y).square()).sum() / batch.weight.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_grad)
        for group in optimizer.param_groups:
            total = stages[-1].tokens_at(stages[-1].end_step)
            group["lr"] = learning_rate(config.optimizer, stage.tokens_at(step + 1), total)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_a_regression_head(zero: str, make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Trained by the loop it is what plain PyTorch trains; killed and resumed it is bit for bit the same."""
    settings = {"parallel": {"zero": zero}, "optimizer": OptimizerConfig(lr=0.1).model_dump()}
    config = make_config(name="whole", **settings)
    run_ranks(2, regress, config)
    whole = curve(config.run_dir)
    steps = [row for row in whole if "train/loss" in row]
    losses, parameters = plain_pytorch(config)
    assert [row["train/loss"] for row in steps] == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < 0.5 * losses[0], "it learns"
    assert [row["train/rmse"] for row in steps] == pytest.approx([loss**0.5 for loss in losses], rel=1e-5)
    assert whole[-1].keys() == {"step", "valid/rmse"}
    assert not any("ppl" in key for row in read_metrics(config.run_dir / "metrics.jsonl") for key in row)
    saved = config.run_dir / "checkpoints/step-00000012"
    assert json.loads((saved / "head.json").read_text()) == {"features": FEATURES}
    assert not (saved / "config.json").exists(), "it is no language model"
    for name, value in load_file(saved / "model.safetensors").items():
        torch.testing.assert_close(value, parameters[name], rtol=1e-5, atol=1e-6)

    killed = make_config(name="killed", **settings)
    kill_at(Ranks(2, regress, killed), killed.run_dir / "metrics.jsonl", 5)
    run_ranks(2, regress, killed)
    assert curve(killed.run_dir) == whole
    assert (killed.run_dir / "checkpoints/step-00000012/model.safetensors").read_bytes() == (
        saved / "model.safetensors"
    ).read_bytes()
    summary = json.loads((killed.run_dir / "summary.json").read_text())
    assert summary == {"rmse": whole[-1]["valid/rmse"], "steps": 12}
