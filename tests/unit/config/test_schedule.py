"""The length warm-up: its arithmetic, and the batches it refuses."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.errors import UserError
from tests.configs import config_with, refusal


def test_known_stages() -> None:
    first, second = config_with().stages(2)
    assert first._asdict() == {
        "number": 0, "seq_length": 64, "global_batch_size": 8, "micro_batch_size": 4,
        "gradient_accumulation_steps": 1, "data_parallel_size": 2, "first_step": 0, "end_step": 2, "first_token": 0,
        "parallel": ParallelConfig(),
    }  # fmt: skip
    assert (second.first_step, second.end_step, second.first_token) == (2, 7, 1024)
    assert second.tokens_per_step == 8 * 256
    assert second.tokens_at(7) == 1024 + 5 * 2048


@pytest.mark.parametrize(
    ("train", "world_size", "message"),
    [
        ({"global_batch_size": 64, "micro_batch_size": 3}, 8,
         "global_batch_size 64 is not a multiple of micro_batch_size 3 x data_parallel_size 8 = 24; try 72"),
        ({"global_batch_size": 3}, 2, "global_batch_size 3 is not a multiple of data_parallel_size 2; try 4"),
        ({"global_batch_size": None, "global_batch_tokens": 1000}, 1,
         "global_batch_tokens 1000 is not a multiple of seq_length 64 x data_parallel_size 1 = 64; try 1024"),
        ({"global_batch_size": None, "global_batch_tokens": 64 * 4}, 8,
         "global_batch_tokens 256 is not a multiple of seq_length 64 x data_parallel_size 8 = 512; try 2048"),
    ],
)  # fmt: skip
def test_known_arithmetic(train: dict[str, Any], world_size: int, message: str) -> None:
    assert refusal(lambda: config_with(**train).stages(world_size)) == message


sizes = st.integers(1, 12)
maybe_size = st.none() | sizes
curricula = st.lists(
    st.fixed_dictionaries(
        {"seq_length": st.integers(1, 40), "micro_batch_size": maybe_size},
        optional={},
    ).flatmap(
        lambda stage: st.sampled_from(["tokens", "train_iters"]).flatmap(
            lambda kind: st.integers(1, 3000 if kind == "tokens" else 20).map(lambda n: stage | {kind: n})
        )
    ),
    min_size=1,
    max_size=4,
)
batches = st.integers(1, 200).map(lambda n: {"global_batch_size": n}) | st.integers(1, 6000).map(
    lambda n: {"global_batch_size": None, "global_batch_tokens": n}
)
PATTERN = re.compile(r"(global_batch_\w+) (\d+) is not a multiple of (?:(.+) = )?(?:\w+ )?(\d+); try (\d+)")


@given(curricula, batches, maybe_size, st.integers(1, 3000), st.integers(1, 9))
def test_laws_of_stages(
    curriculum: list[dict[str, int]], batch: dict[str, int | None], micro: int | None, bound: int, world_size: int
) -> None:
    train = {"curriculum": curriculum, "micro_batch_size": micro, "micro_batch_tokens": bound, **batch}
    config = config_with(**train)
    error = ""
    try:
        stages = config.stages(world_size)
    except UserError as caught:
        error = str(caught)
    if error:
        # The arithmetic is right, and the value to try works.
        match = PATTERN.fullmatch(error)
        assert match is not None, error
        key, value, product, unit, suggestion = match.groups()
        assert int(value) == batch[key]
        assert int(value) % int(unit) != 0
        if product:
            assert math.prod(int(factor.split()[-1]) for factor in product.split(" x ")) == int(unit)
        assert int(suggestion) > int(value)
        stages = config_with(**train | {key: int(suggestion)}).stages(world_size)
        batch = batch | {key: int(suggestion)}
    step = token = 0
    for number, (stage, asked) in enumerate(zip(stages, curriculum, strict=True)):
        size = stage.global_batch_size
        assert (stage.number, stage.seq_length) == (number, asked["seq_length"])
        assert size == batch["global_batch_size"] or size * stage.seq_length == batch["global_batch_tokens"]
        assert stage.data_parallel_size == world_size
        assert size == stage.micro_batch_size * stage.gradient_accumulation_steps * world_size
        wanted = asked["micro_batch_size"] or micro
        assert (
            stage.micro_batch_size == wanted
            if wanted
            else stage.micro_batch_size * stage.seq_length <= max(bound, stage.seq_length)
        )
        # Budgets: exactly the steps, or the fewest steps that see the tokens.
        steps = stage.end_step - stage.first_step
        if "train_iters" in asked:
            assert steps == asked["train_iters"]
        else:
            assert (steps - 1) * stage.tokens_per_step < asked["tokens"] <= steps * stage.tokens_per_step
        # Steps and tokens go on where the stage before ended.
        assert (stage.first_step, stage.first_token) == (step, token)
        assert stage.tokens_at(stage.first_step) == token
        step, token = stage.end_step, stage.tokens_at(stage.end_step)
        assert token == stage.first_token + steps * size * stage.seq_length


def test_a_derived_micro_batch_is_the_largest_that_fits() -> None:
    stages = config_with(global_batch_size=24, micro_batch_tokens=64 * 5).stages(2)
    assert [s.micro_batch_size for s in stages] == [4, 1]
    assert [s.gradient_accumulation_steps for s in stages] == [3, 12]


@pytest.mark.parametrize(
    ("save", "retain", "message"),
    [
        (500, 1200, "save_retain_interval 1200 is not a multiple of save_interval 500; try 1500"),
        (0, 1200, "save_retain_interval 1200 keeps nothing while save_interval is 0; set both"),
    ],
)
def test_what_stays_must_be_saved(save: int, retain: int, message: str) -> None:
    assert message in refusal(lambda: config_with(save_interval=save, save_retain_interval=retain))
    assert config_with(save_interval=500, save_retain_interval=1500).train.save_retain_interval == 1500
