"""Fixtures that several folders use."""

import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from tests.labelled import WRITERS
from tests.slow import is_slow

# How long an example takes is the machine's affair: benchmarks tell of speed, tests of right and wrong.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell's background job and nohup ignore them, and so would all that the tests start and then press Ctrl-C on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves out."""
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker("slow")


@pytest.fixture(scope="module", autouse=True)
def no_group_is_left() -> Iterator[None]:
    """A process group that a file of tests leaves behind would be in the way of those that follow it."""
    yield
    if torch := sys.modules.get("torch"):
        assert not torch.distributed.is_initialized(), "a test of this file has left its process group behind"


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40,000 random bases with a stretch of N: 80 % train, 20 % valid."""
    folder = tmp_path_factory.mktemp("store")
    bases = np.random.default_rng(0).choice(list("ACGT"), 40_000)
    bases[5_000:5_100] = "N"
    (folder / "genome.fa").write_text(">chr1\n" + "".join(bases) + "\n")
    build_store([folder / "genome.fa"], folder / "store", BuildOptions(BlockSplits((0.8, 0.2))), say=lambda _: None)
    return folder / "store"


@pytest.fixture
def make_config(small_store: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """A run of two curriculum stages on a tiny model; keyword arguments replace whole sections."""

    def make(**sections: Any) -> RunConfig:
        tree: dict[str, Any] = {
            "name": "run",
            "output_dir": str(tmp_path),
            "model": {"d_model": 16, "n_layer": 2, "l_max": 128, "filter_order": 16, "embed_dropout": 0.1},
            "data": {"path": str(small_store), "reverse_complement": True},
            "optimizer": {"lr": 3e-3, "lr_warmup_tokens": 1000},
            "train": {
                "curriculum": [{"seq_length": 48, "train_iters": 6}, {"seq_length": 128, "train_iters": 6}],
                "global_batch_size": 8,
                "micro_batch_size": 2,
                "log_interval": 1,
                "save_interval": 2,
            },
            "evaluation": {"max_tokens": 4096, "lengths": [128]},
            "tracking": {"mlflow": False},
        }
        return parse_config(tree | sections, "test")

    return make


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., RunConfig]:
    """A run on a tiny model from scratch; keyword arguments go into the sections, `task` into what is there."""
    numbers = itertools.count()

    def make(kind: str = "single_label", task: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        from hyena_dist.tasks.resolve import complete

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one worker all of tests/slurm, whose files share a cluster; the others take a file each."""
    from xdist.scheduler.loadfile import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "tests/slurm/"
            return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
