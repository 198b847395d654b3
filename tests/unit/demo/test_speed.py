"""A machine is measured by real steps in real processes, and other work on it counts."""

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.demo.speed import measure_speed
from hyena_dist.errors import TemporaryError
from tests.configs import config_with


def small(**model: int) -> RunConfig:
    curriculum = [{"seq_length": 64, "tokens": 1024}, {"seq_length": 1024, "tokens": 1024}]
    config = config_with(curriculum=curriculum, global_batch_size=2)
    return config.model_copy(update={"model": config.model.model_copy(update={"d_model": 32, "l_max": 1024, **model})})


def test_every_stage_is_measured_and_longer_steps_take_longer() -> None:
    found = measure_speed(small(), 2)
    assert len(found.step_s) == 2
    assert 0 < found.step_s[0] < found.step_s[1] < 60
    assert 0 < found.start_s < 120


def test_a_process_that_ends_early_is_said() -> None:
    with pytest.raises(TemporaryError, match="ended early"):
        measure_speed(small(l_max=4), 2)  # its grid is shorter than the sequences
