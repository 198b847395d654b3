"""A run whose precision is slow on its CPU says so once, and trains."""

from collections.abc import Callable

import pytest
import torch

from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.world import join_world
from hyena_dist.train.run import train


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is not measured")
@pytest.mark.parametrize(("speed", "precision", "times"), [(0.02, "bf16", 1), (0.02, "fp32", 0), (3.0, "bf16", 0)])
def test_slow_bf16_is_said_once(
    make_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    speed: float,
    precision: str,
    times: int,
) -> None:
    monkeypatch.setattr("hyena_dist.ops.precision.bf16_speed", lambda: speed)
    train(make_config(precision=precision), join_world())
    out, err = capsys.readouterr()
    assert (out + err).count("warning: this CPU has no fast bf16: a product takes 50 times as long") == times
    assert "finished" in out + err or "perplexity" in out + err
