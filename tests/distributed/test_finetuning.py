"""Fine-tuning is the same on any ranks, and the same after a kill."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.tasks.finetuning import Finetuning
from hyena_dist.train.checkpoint.format import list_checkpoints
from hyena_dist.train.run import train
from hyena_dist.train.state import read_state
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve
from tests.processes import Ranks, run_ranks

Make = Callable[..., RunConfig]


def finetune(config: RunConfig) -> None:
    train(config, join_world(timeout_s=60), objective=Finetuning)


def finetuned(ranks: int, config: RunConfig) -> list[dict[str, float]]:
    run_ranks(ranks, finetune, config)
    return curve(config.run_dir)


LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "two ranks": (2, {}),
    "zero0": (2, {"zero": "zero0"}),
    "zero2": (2, {"zero": "zero2"}),
    "zero3": (2, {"zero": "zero3"}),
    "context": (2, {"context_parallel_size": 2}),
    "tensor": (2, {"tensor_model_parallel_size": 2}),
    "sequence": (2, {"tensor_model_parallel_size": 2, "sequence_parallel": True}),
    "recomputed": (1, {"activation_checkpointing": True}),
}


@pytest.fixture(scope="module")
def curves() -> dict[str, list[dict[str, float]]]:
    """Curves of one process by kind, each made by the first test that needs it."""
    return {}


CASES = [
    *(("single_label", layout) for layout in LAYOUTS),
    *(("per_base", layout) for layout in ("context", "sequence")),
    ("multi_label", "two ranks"),
    ("regression", "two ranks"),
]


@pytest.mark.parametrize(("kind", "layout"), CASES)
def test_one_process_is_any_layout(
    kind: str, layout: str, make_task: Make, curves: dict[str, list[dict[str, float]]]
) -> None:
    """Losses, norms and valid losses are equal within 1e-5, dropout and the other strand included."""
    ranks, parallel = LAYOUTS[layout]
    if kind not in curves:
        curves[kind] = finetuned(1, make_task(kind))
    found = finetuned(ranks, make_task(kind, parallel=parallel))
    assert len(found) == len(curves[kind])
    for mine, one in zip(found, curves[kind], strict=True):
        assert mine.keys() == one.keys()
        for key in ("step", "train/loss", "train/grad_norm", "valid/loss"):
            if key in one:
                assert mine[key] == pytest.approx(one[key], rel=1e-5), (key, mine["step"])


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("zero1", {"patience": 2, "best_by": "loss"}),
    "frozen": ("zero0", {"tune": "frozen"}),
    "frozen, zero3": ("zero3", {"tune": "frozen"}),
    "adapters": ("zero2", {"tune": "lora"}),
    "adapters, zero3": ("zero3", {"tune": "lora"}),
}


@pytest.mark.parametrize(("zero", "task"), WAYS.values(), ids=WAYS)
def test_killed_and_resumed(zero: str, task: dict[str, Any], make_task: Make) -> None:
    """A run that is killed ends as one that is not: curve, best checkpoint, last one, and predictions, bit for bit."""
    same: dict[str, Any] = {"task": {**task, "epochs": 3}, "parallel": {"zero": zero}, "optimizer": {"lr": 0.03}}
    undisturbed, killed = make_task(**same), make_task(**same)
    whole = finetuned(2, undisturbed)
    last = list_checkpoints(undisturbed.run_dir / "checkpoints")[-1]
    if "patience" in task:
        assert read_state(last).ended, "the case is one of early stopping"
        assert whole[-1]["step"] < undisturbed.stages(2)[-1].end_step
    for rows in (3, 7):
        kill_at(Ranks(2, finetune, killed), killed.run_dir / "metrics.jsonl", rows)
    assert finetuned(2, killed) == whole
    assert saved(killed) == saved(undisturbed)


def saved(config: RunConfig) -> dict[str, bytes]:
    """The weights and predictions of a finished run, by path."""
    files = [*config.run_dir.glob("checkpoints/*/model.safetensors"), *config.run_dir.glob("*.parquet")]
    return {str(path.relative_to(config.run_dir)): path.read_bytes() for path in files}


def test_frozen_weights_stay_to_the_last_bit(make_task: Make) -> None:
    """The checkpoint has the pretrained model's beside adapters that have learned."""
    base = make_task(task={"epochs": 1})
    run_ranks(1, finetune, base)
    before = load_file(list_checkpoints(base.run_dir / "checkpoints")[-1] / "model.safetensors")
    config = make_task(model=str(base.run_dir), task={"tune": "lora", "epochs": 2}, parallel={"zero": "zero3"})
    run_ranks(2, finetune, config)
    after = load_file(list_checkpoints(config.run_dir / "checkpoints")[-1] / "model.safetensors")
    frozen = {name: name.replace(".base_layer", "") for name in after if name.startswith("backbone.")}
    frozen = {mine: name for mine, name in frozen.items() if ".lora_" not in mine}
    assert set(frozen.values()) == {name for name in before if name.startswith("backbone.")}
    assert all(torch.equal(after[mine], before[name]) for mine, name in frozen.items())
    assert all(after[name].abs().max() > 0 for name in after if ".lora_B" in name)


def test_the_best_checkpoint_stays(make_task: Make) -> None:
    """The checkpoint whose metric was best is kept, whatever came after, and its weights make the predictions."""
    train_settings = {"global_batch_size": 8, "log_interval": 1, "eval_interval": 2, "save_interval": 3, "keep_last": 1}
    config = make_task(task={"epochs": 4, "best_by": "loss"}, train=train_settings, optimizer={"lr": 0.03})
    rows = finetuned(1, config)
    losses = {row["step"]: row["valid/loss"] for row in rows if "valid/loss" in row}
    best = min(losses, key=lambda step: losses[step])
    steps = [read_state(path).step for path in list_checkpoints(config.run_dir / "checkpoints")]
    assert steps == sorted({best, max(losses)})
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert summary["best_step"] == best < max(losses)
    assert summary["valid"]["loss"] == pytest.approx(losses[best], rel=1e-6)
