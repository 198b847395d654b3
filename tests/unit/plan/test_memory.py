"""The formula beside what processes take: never less, and not much more."""

import pytest

from hyena_dist.bench.process import in_a_process
from hyena_dist.bench.step import StepCase, measure_step
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.plan.memory import GIB, Memory, step_memory


def config(
    length: int, d_model: int, n_layer: int, precision: str, again: bool, zero: str = "zero0", **parallel: int
) -> RunConfig:
    tree = {
        "data": {"path": "store"},
        "precision": precision,
        "model": {"d_model": d_model, "n_layer": n_layer, "l_max": length},
        "parallel": {"activation_checkpointing": again, "zero": zero} | parallel,
        "train": {"curriculum": [{"seq_length": length, "train_iters": 1}], "global_batch_size": 1},
    }
    return parse_config(tree, "test")


def expected(asked: RunConfig, ranks: int = 1) -> Memory:
    return step_memory(asked, asked.stages(ranks)[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("again", [False, True])
def test_beside_a_real_step(precision: str, again: bool) -> None:
    length, d_model, n_layer = 131_072, 64, 3
    found = in_a_process(measure_step, length, StepCase(d_model, n_layer, precision, again, "cpu", 1))
    assert not isinstance(found, str), found
    formula = expected(config(length, d_model, n_layer, precision, again)).total
    assert 0.95 < formula / (found[1] * 1e9) < 1.6, f"{formula / GIB:.2f} GiB, measured {found[1]:.2f} GB"


def test_recorded_steps() -> None:
    """Two steps in jobs/results: 2 x 128 in fp32, 8 x 256 in bf16 with activation checkpointing; 1,048,576 tokens."""
    for asked, measured in (
        (config(2**20, 128, 2, "fp32", False), 6.4e9),
        (config(2**20, 256, 8, "bf16", True), 15.39e9),
    ):
        assert 1 < expected(asked).total / measured < 1.45


def test_cutting_takes_less() -> None:
    whole = expected(config(2**18, 256, 4, "bf16", False))
    for ranks in (2, 4, 8):
        cut = expected(config(2**18, 256, 4, "bf16", False, context_parallel_size=ranks), ranks)
        # What one operator makes again in one process is kept where ranks share a layer: up to three times as much.
        assert whole.activations / ranks < cut.activations < 3 * whole.activations / ranks
    again = expected(config(2**18, 256, 4, "bf16", True))
    assert again.activations < whole.activations / 2
    assert sum(whole) == whole.total
    assert "GiB a rank (states 0.0, activations" in whole.describe()


def test_zero_cuts_states() -> None:
    def states(zero: str) -> float:
        asked = config(1024, 256, 8, "bf16", False, zero=zero)
        train = asked.train.model_copy(update={"global_batch_size": 4})
        (stage,) = asked.model_copy(update={"train": train}).stages(4)
        return step_memory(asked, stage).states / (4 * asked.model.num_parameters)

    assert [states(f"zero{n}") for n in range(4)] == pytest.approx([4, 2 + 3 / 4, 1 + 4 / 4, 5 / 4])
    assert states("zero2_offload") < states("zero2")
