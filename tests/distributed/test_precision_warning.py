"""A run whose precision is slow on its CPU says so once, and trains."""

import contextlib
import io
from collections.abc import Callable

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.ops import precision
from tests.distributed.training import train_here
from tests.processes import run_ranks


def _said(config: RunConfig, speed: float) -> str:
    """Return what a rank prints where bf16 products seem to run `speed` times as fast as fp32 ones."""
    precision.bf16_speed = lambda: speed
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        train_here(config)
    return output.getvalue()


@pytest.mark.parametrize(("speed", "precision", "times"), [(0.02, "bf16", 1), (0.02, "fp32", 0), (3.0, "bf16", 0)])
def test_slow_bf16_is_said_once(
    make_config: Callable[..., RunConfig], speed: float, precision: str, times: int
) -> None:
    said = "".join(run_ranks(2, _said, make_config(precision=precision), speed))
    assert said.count("warning: this CPU has no fast bf16: a product takes 50 times as long as in fp32") == times
    assert "held-out perplexity" in said
