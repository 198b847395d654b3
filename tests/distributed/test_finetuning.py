"""Fine-tuning is the same on any ranks, and the same after a kill."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.tasks.finetuning import Finetuning
from hyena_dist.tasks.resolve import complete
from hyena_dist.train.run import train
from tests.distributed.training import curve
from tests.labelled import WRITERS
from tests.processes import run_ranks

Make = Callable[..., RunConfig]


@pytest.fixture
def make_task(tmp_path: Path) -> Make:
    """A run on a tiny model from scratch; keyword arguments go into the sections, `task` into what is there."""
    numbers = itertools.count()

    def make(kind: str = "single_label", task: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        path = tmp_path / f"{kind}.csv"
        if not path.exists():
            WRITERS[kind](path)
        tree: dict[str, Any] = {
            "name": f"run{next(numbers)}",
            "output_dir": str(tmp_path),
            "architecture": {"d_model": 16, "n_layer": 2, "l_max": 48, "filter_order": 16, "embed_dropout": 0.1},
            "task": {
                "data": {"path": str(path), "kind": kind},
                "epochs": 2,
                "reverse_complement": True,
                **(task or {}),
            },
            "optimizer": {"lr": 3e-3},
            "train": {"global_batch_size": 8, "micro_batch_size": 2, "log_interval": 1, "eval_interval": 4},
            "tracking": {"mlflow": False},
        }
        return complete(tree | sections, "test")

    return make


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
