"""A finished run whose curriculum becomes longer goes on, as if it had been that long from the start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import latest
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks

FIRST = {"seq_length": 32, "train_iters": 3}


@pytest.mark.parametrize(
    "rest",
    [
        [{"seq_length": 64, "train_iters": 5}],
        [{"seq_length": 64, "train_iters": 2}, {"seq_length": 128, "train_iters": 3}],
        [{"seq_length": 64, "train_iters": 3}, {"seq_length": 128, "train_iters": 2}],
    ],
    ids=["a longer stage", "a further stage", "both"],
)
def test_goes_on(rest: list[dict[str, int]], make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    def config(name: str, *curriculum: dict[str, int]) -> RunConfig:
        train = {"curriculum": [FIRST, *curriculum], "global_batch_size": 4, "log_interval": 1, "save_interval": 0}
        # Without a cosine: that of a longer curriculum is another.
        return make_config(name=name, train=train, optimizer={"lr": 3e-3, "min_lr": 3e-3, "lr_warmup_tokens": 100})

    run_ranks(1, train_here, config("longer", {"seq_length": 64, "train_iters": 2}))
    run_ranks(1, train_here, config("longer", *rest))
    run_ranks(1, train_here, config("at-once", *rest))
    ended = outcome.read(tmp_path / "longer")
    assert ended is not None
    assert ended[:4] == ("finished", 8, len(rest) + 1, len(rest) + 1)
    losses = [[row for row in curve(tmp_path / name) if "train/loss" in row] for name in ("longer", "at-once")]
    assert losses[0] == losses[1]
    saved = [latest(tmp_path / name / "checkpoints") for name in ("longer", "at-once")]
    assert all(saved)
    weights = [(folder / "model.safetensors").read_bytes() for folder in saved if folder]
    assert weights[0] == weights[1]
