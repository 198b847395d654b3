"""Species classification with length warm-up: the same on context ranks, and the same after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.tasks.species.objective import SpeciesClassification
from hyena_dist.train.run import train
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve
from tests.processes import Ranks, run_ranks
from tests.species import species_run, write_species

Make = Callable[..., RunConfig]


def classify(config: RunConfig) -> None:
    train(config, join_world(timeout_s=60), objective=SpeciesClassification)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_species(tmp_path_factory.mktemp("species"))


@pytest.fixture(scope="module")
def calm(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = species_run(store, tmp_path_factory.mktemp("calm"), "calm")
    run_ranks(1, classify, config)
    return config.run_dir


def test_accuracy_by_context(calm: Path) -> None:
    """The report has every split at every length of the curriculum, and the picture's numbers beside it."""
    contexts = json.loads((calm / "summary.json").read_text())["contexts"]
    assert list(contexts) == ["16", "64", "256"]
    assert all(contexts[length]["test"]["windows"] > 0 for length in contexts)
    assert contexts["256"]["test"]["windows"] == 3 * 7
    assert {"predictions-test.parquet", "predictions-valid.parquet"} <= {path.name for path in calm.iterdir()}
    rows = (calm / "plots/accuracy.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2
    assert (calm / "plots/accuracy.png").stat().st_size > 5_000


@pytest.mark.parametrize("parallel", [{"context_parallel_size": 2}, {"zero": "zero3"}], ids=["context", "zero3"])
def test_one_process_is_any_layout(parallel: dict[str, Any], calm: Path, store: Path, tmp_path: Path) -> None:
    config = species_run(store, tmp_path, "two", parallel=parallel)
    run_ranks(2, classify, config)
    found, one = curve(config.run_dir), curve(calm)
    assert [row["step"] for row in found] == [row["step"] for row in one]
    for mine, theirs in zip(found, one, strict=True):
        for key in ("train/loss", "train/grad_norm", "valid/loss"):
            if key in theirs:
                assert mine[key] == pytest.approx(theirs[key], rel=1e-5), (key, mine["step"])


def test_a_kill(calm: Path, store: Path, tmp_path: Path) -> None:
    config = species_run(store, tmp_path, "killed")
    kill_at(Ranks(1, classify, config), config.run_dir / "metrics.jsonl", 6)
    run_ranks(1, classify, config)
    assert curve(config.run_dir) == curve(calm)
    last = "checkpoints/step-00000012/model.safetensors"
    assert (config.run_dir / last).read_bytes() == (calm / last).read_bytes()
