"""Values left `auto` are filled in with what works and fits; what is said stays."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.config.file import dump_config, parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.plan.fit import fit
from hyena_dist.plan.memory import GIB, step_memory

AUTO = {
    "tensor_model_parallel_size": "auto",
    "context_parallel_size": "auto",
    "activation_checkpointing": "auto",
}


def config(lengths: list[int], batch: int, memory_gib: float = 80, **sections: Any) -> RunConfig:
    tree: dict[str, Any] = {
        "data": {"path": "store"},
        "precision": "bf16",
        "model": {"d_model": 256, "n_layer": 8, "l_max": max(lengths)},
        "parallel": AUTO | {"device_memory_gib": memory_gib},
        "train": {
            "curriculum": [{"seq_length": n, "train_iters": 1} for n in lengths],
            "global_batch_size": batch,
            "micro_batch_size": "auto",
        },
    }
    return parse_config(tree | sections, "test")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(8, 20), min_size=1, max_size=4),
    st.integers(0, 8),
    st.integers(0, 8),
    st.sampled_from([8.0, 24.0, 80.0]),
)
def test_what_comes_out_works(powers: list[int], batch: int, ranks: int, memory_gib: float) -> None:
    """Valid, within memory, explicit, the same when planned again; and the global batch is as asked."""
    asked = config([2**n for n in powers], 2**batch, memory_gib)
    try:
        planned = fit(asked, 2**ranks)
    except UserError as error:
        reason = str(error)
        assert re.search("GiB a rank at the least|no layout works", reason)
        return
    assert planned.auto == ()
    assert fit(planned, 2**ranks) is planned
    again = parse_config(yaml.safe_load(dump_config(planned)), "test")
    assert again == planned
    for stage in planned.stages(2**ranks):
        assert stage.global_batch_size == 2**batch
        assert step_memory(planned, stage).total <= 0.9 * memory_gib * GIB
    assert fit(asked, 2**ranks) == planned


def test_the_cheapest_that_fits() -> None:
    """One GPU's worth of a 1 M model: made again in backward before it is cut, and cut when that is not enough."""
    for memory_gib, context, again in ((200, 1, False), (40, 1, True), (10, 4, True)):
        (stage,) = fit(config([2**20], 8, memory_gib), 8).stages(8)
        found = (stage.parallel.context_parallel_size, stage.parallel.activation_checkpointing)
        assert found == (context, again), memory_gib


def test_more_ranks_than_sequences() -> None:
    first, second = fit(config([1024, 2**17], 4), 16).stages(16)
    assert (first.parallel.context_parallel_size, first.data_parallel_size) == (4, 4)
    assert second.micro_batch_size * second.gradient_accumulation_steps * second.data_parallel_size == 4


def test_what_is_said_stays() -> None:
    said = config([1024], 64)
    stages = [{"seq_length": 1024, "train_iters": 1, "micro_batch_size": 2, "parallel": {"context_parallel_size": 2}}]
    said = config([1024], 64, train={"curriculum": stages, "global_batch_size": 64, "micro_batch_size": "auto"})
    (stage,) = fit(said, 8).stages(8)
    assert (stage.micro_batch_size, stage.parallel.context_parallel_size) == (2, 2)
    nothing = config([1024], 8, parallel={}, train={"curriculum": stages, "global_batch_size": 64})
    assert fit(nothing, 3) is nothing


@pytest.mark.parametrize(
    ("asked", "ranks", "sentence"),
    [
        (
            config([2**20], 1, 0.5),
            1,
            r"stage 1 \(seq_length 1048576\) on 1 ranks needs \d+\.\d GiB a rank at the least",
        ),
        (config([1024], 7), 3, r"no layout works for stage 1 .* on 3 ranks: global_batch_size 7 is not a multiple of"),
    ],
)
def test_nothing_works(asked: RunConfig, ranks: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        fit(asked, ranks)


def test_auto_survives_a_file() -> None:
    asked = config([1024, 4096], 8)
    assert asked.auto == (
        "parallel.tensor_model_parallel_size",
        "parallel.context_parallel_size",
        "parallel.activation_checkpointing",
        "train.micro_batch_size",
    )
    text = dump_config(asked)
    assert text.count(": auto") == 4
    assert parse_config(yaml.safe_load(text), "test") == asked
