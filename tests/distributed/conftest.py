"""Runs that nothing happens to, each trained once."""

import itertools
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.tasks.resolve import complete
from tests.distributed.training import train_here
from tests.labelled import WRITERS
from tests.processes import run_ranks

Calm = Callable[..., Path]
Make = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def calm_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calm")


@pytest.fixture
def calm(make_config: Callable[..., RunConfig], calm_runs: Path) -> Calm:
    """The folder of the run of `make_config(**sections)` on so many ranks; tests must leave it as it is."""

    def folder(ranks: int, **sections: Any) -> Path:
        config = make_config(output_dir=str(calm_runs), **sections)
        settings = json.dumps(config.model_dump(mode="json", exclude={"name"}), sort_keys=True)
        name = f"{ranks}-{sha256(settings.encode()).hexdigest()[:12]}"
        config = config.model_copy(update={"name": name})
        for _ in config.segments(ranks):
            if not (config.run_dir / "summary.json").exists():
                run_ranks(ranks, train_here, config)
        return config.run_dir

    return folder


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
                "report": False,
                **(task or {}),
            },
            "optimizer": {"lr": 3e-3},
            "train": {"global_batch_size": 8, "micro_batch_size": 2, "log_interval": 1, "eval_interval": 4},
            "tracking": {"mlflow": False},
        }
        return complete(tree | sections, "test")

    return make
