"""Runs that nothing happens to, each trained once."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from tests.distributed.training import train_here
from tests.processes import run_ranks

Calm = Callable[..., Path]


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
